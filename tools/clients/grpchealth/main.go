// grpchealth makes a health check with grpc-go, as a program of a build does.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sallyport/sallyport/tools/clients/internal/session"
)

func main() {
	version := flag.Bool("version", false, "print the version of grpc-go")
	flag.Parse()
	if *version {
		fmt.Println("grpc-go", grpc.Version)
		return
	}
	conn, err := grpc.NewClient(flag.Arg(0), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	session.Run(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		resp, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return resp.GetStatus().String(), err
	})
}
