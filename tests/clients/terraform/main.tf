# A function with an extension, an alias and a URL, and all that hangs on them.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  s3_use_path_style = true
}

variable "name" {
  type = string
}

variable "runtime" {
  type = string
}

variable "greeting" {
  type    = string
  default = "hello"
}

variable "code" {
  type = string
}

variable "layer" {
  type = string
}

resource "aws_iam_role" "hello" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "logs" {
  role       = aws_iam_role.hello.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_iam_role_policy" "hello" {
  name = "hello"
  role = aws_iam_role.hello.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "ssm:GetParameter", Resource = aws_ssm_parameter.greeting.arn },
      { Effect = "Allow", Action = "lambda:InvokeFunction", Resource = aws_lambda_function.other.arn }
    ]
  })
}

resource "aws_ssm_parameter" "greeting" {
  name  = "/${var.name}/greeting"
  type  = "SecureString"
  value = var.greeting
}

resource "aws_cloudwatch_log_group" "hello" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 7
}

resource "aws_s3_bucket" "code" {
  bucket        = var.name
  force_destroy = true
}

resource "aws_s3_bucket_versioning" "code" {
  bucket = aws_s3_bucket.code.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "code" {
  bucket            = aws_s3_bucket.code.id
  block_public_acls = true
}

resource "aws_s3_object" "code" {
  bucket = aws_s3_bucket.code.id
  key    = "code.zip"
  source = var.code
  etag   = filemd5(var.code)
}

resource "aws_ecr_repository" "images" {
  name = var.name
}

resource "aws_lambda_layer_version" "extension" {
  layer_name          = var.name
  filename            = var.layer
  source_code_hash    = filebase64sha256(var.layer)
  compatible_runtimes = [var.runtime]
}

resource "aws_lambda_layer_version_permission" "extension" {
  layer_name     = aws_lambda_layer_version.extension.layer_name
  version_number = aws_lambda_layer_version.extension.version
  statement_id   = "friends"
  principal      = "111111111111"
  action         = "lambda:GetLayerVersion"
}

resource "aws_lambda_function" "hello" {
  function_name                  = var.name
  role                           = aws_iam_role.hello.arn
  runtime                        = var.runtime
  handler                        = "app.handler"
  filename                       = var.code
  source_code_hash               = filebase64sha256(var.code)
  publish                        = true
  timeout                        = 20
  memory_size                    = 256
  layers                         = [aws_lambda_layer_version.extension.arn]
  reserved_concurrent_executions = 10
  environment {
    variables = { GREETING = var.greeting }
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO" # without them the provider finds a change every time, with AWS as well
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.hello.name
  }
}

resource "aws_lambda_function" "other" {
  function_name = "${var.name}-other"
  role          = aws_iam_role.hello.arn
  runtime       = var.runtime
  handler       = "app.handler"
  s3_bucket     = aws_s3_object.code.bucket
  s3_key        = aws_s3_object.code.key
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.hello.function_name
  function_version = aws_lambda_function.hello.version
}

resource "aws_lambda_permission" "events" {
  statement_id  = "events"
  function_name = aws_lambda_function.hello.function_name
  qualifier     = aws_lambda_alias.live.name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.hello.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name                = aws_lambda_function.hello.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
  destination_config {
    on_failure {
      destination = aws_lambda_function.other.arn
    }
  }
  depends_on = [aws_iam_role_policy.hello]
}

resource "aws_lambda_provisioned_concurrency_config" "live" {
  function_name                     = aws_lambda_function.hello.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = 1
}

output "url" {
  value = aws_lambda_function_url.live.function_url
}
