// Command bareproxy is goproxy without anything around it: no identity, no policy, no log.
// Other proxies are compared with it. Its argument is the address to listen on.
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/elazarl/goproxy"
)

func main() {
	fmt.Fprintln(os.Stderr, "bareproxy:", http.ListenAndServe(os.Args[1], goproxy.NewProxyHttpServer()))
	os.Exit(1)
}
