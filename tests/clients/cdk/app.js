// A function with an extension, an alias and a URL; what differs between deployments comes from the environment.
const path = require("path");
const cdk = require("aws-cdk-lib");
const lambda = require("aws-cdk-lib/aws-lambda");

const asset = (name) => lambda.Code.fromAsset(path.join(__dirname, name));
const app = new cdk.App();
const stack = new cdk.Stack(app, process.env.STACK, {
  env: { account: process.env.CDK_DEFAULT_ACCOUNT, region: process.env.CDK_DEFAULT_REGION },
});
const extension = new lambda.LayerVersion(stack, "Extension", { code: asset("layer") });
const hello = new lambda.Function(stack, "Hello", {
  runtime: new lambda.Runtime(process.env.RUNTIME),
  handler: "app.handler",
  code: asset("code"),
  layers: [extension],
  environment: { GREETING: process.env.GREETING },
  timeout: cdk.Duration.seconds(20),
  memorySize: 256,
  retryAttempts: 0,
});
const alias = new lambda.Alias(stack, "Live", { aliasName: "live", version: hello.currentVersion });
const url = alias.addFunctionUrl({ authType: lambda.FunctionUrlAuthType.NONE });
new cdk.CfnOutput(stack, "Name", { value: hello.functionName });
new cdk.CfnOutput(stack, "Url", { value: url.url });
