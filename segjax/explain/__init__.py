"""Why a network answers as it does, and how sure it is: maps on an image's own grid."""
