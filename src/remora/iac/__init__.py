"""CloudFormation and SAM templates become a plan of operations of the node, then are applied."""
