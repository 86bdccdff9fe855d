"""What binds the rooms together: settings, routes and the processes' entry points."""
