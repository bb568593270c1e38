"""Does a config that writes itself score as those by hand?"""
