"""What the project costs in calls and time; see README.md beside this file."""
