// httpget gets a page with Go's own client, as a program of a build does.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/tools/clients/internal/session"
)

func main() {
	flag.Parse()
	client := &http.Client{Timeout: 40 * time.Second}
	session.Run(func() (string, error) {
		resp, err := client.Get(flag.Arg(0))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %s: %s", resp.Status, body)
		}
		return string(body), err
	})
}
