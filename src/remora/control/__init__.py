"""The Lambda API that boto3 speaks: dispatch by service model, one file per resource family."""
