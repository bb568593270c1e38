"""Files that hold arrays, beside pictures: volumes, series, arrays with names, sound."""
