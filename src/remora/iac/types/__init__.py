"""What resources there may be in a template: for each type how one is made, changed and removed."""
