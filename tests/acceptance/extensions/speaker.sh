#!/bin/bash
# An external extension that prints every event it hears. Needs nothing but bash.
export LC_ALL=C
name=${0##*/}
address=/dev/tcp/${AWS_LAMBDA_RUNTIME_API/:/\/}

ask() {  # METHOD PATH HEADER [BODY] -> $id, $body
    exec 3<>"$address" || exit 1
    printf '%s /2020-01-01/extension/%s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s' \
        "$1" "$2" "$AWS_LAMBDA_RUNTIME_API" "$3" "${#4}" "${4-}" >&3
    length=0 body=
    while IFS= read -r line <&3 && line=${line%$'\r'} && [ -n "$line" ]; do
        case ${line,,} in
        content-length:*) length=${line#*: } ;;
        lambda-extension-identifier:*) id=${line#*: } ;;
        esac
    done
    [ "$length" -eq 0 ] || IFS= read -r -N "$length" body <&3
    exec 3>&-
}

ask POST register "Lambda-Extension-Name: $name" '{"events":["INVOKE","SHUTDOWN"]}'
while ask GET event/next "Lambda-Extension-Identifier: $id" && [ -n "$body" ]; do
    echo "$name: $body"
    case $body in *SHUTDOWN*) exit 0 ;; esac
done
