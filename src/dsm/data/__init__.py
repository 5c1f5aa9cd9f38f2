"""Lists of videos and the clips drawn from them."""
