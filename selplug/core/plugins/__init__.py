"""A plugin's attributes are read and checked here, once; everybody else reads plain fields."""
