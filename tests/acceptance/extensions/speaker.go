// An external extension that prints every event it hears, with Go's own HTTP client.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

var name = filepath.Base(os.Args[0])

func ask(method, path, header, value, body string) (http.Header, []byte) {
	url := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/" + path
	request, err := http.NewRequest(method, url, bytes.NewBufferString(body))
	if err != nil {
		panic(err)
	}
	request.Header.Set(header, value)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		panic(fmt.Sprint(response.Status, err))
	}
	return response.Header, answer
}

func main() {
	headers, _ := ask("POST", "register", "Lambda-Extension-Name", name, `{"events":["INVOKE","SHUTDOWN"]}`)
	identifier := headers.Get("Lambda-Extension-Identifier")
	for {
		_, event := ask("GET", "event/next", "Lambda-Extension-Identifier", identifier, "")
		fmt.Printf("%s: %s\n", name, event)
		if bytes.Contains(event, []byte("SHUTDOWN")) {
			return
		}
	}
}
