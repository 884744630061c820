"""The decorator of all compiled functions, and how their machine code is kept between processes."""
