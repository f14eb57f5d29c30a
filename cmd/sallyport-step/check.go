package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/upstream"
)

// checkProxy reads the step's own data from Sallyport: the proxy can be reached, its
// certificate is valid, and it accepts the token. It returns one line about the step.
func checkProxy(ctx context.Context, client *upstream.Client) (string, error) {
	step, refusal, err := client.Step(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("check the proxy: %w", err)
	case refusal == nil:
		return describe(*step), nil
	case refusal.Status >= http.StatusInternalServerError || refusal.Status == http.StatusTooManyRequests:
		return "", nil // overloaded or stopped: the proxy answers each request for itself
	}
	return "", fmt.Errorf("check the proxy: %w", refusalError("the step", refusal))
}

// refusalError is a refusal as an error.
func refusalError(target string, refusal *upstream.Refusal) error {
	line := forwarder.Refusal{Refusal: *refusal, Target: target}.Line()
	return errors.New(strings.TrimSpace(strings.TrimPrefix(line, "sallyport: ")))
}

// sendNetworkCheck records the result of a network check with Sallyport.
func sendNetworkCheck(ctx context.Context, client *upstream.Client, check *stepapi.NetworkCheck) error {
	content, err := json.Marshal(check)
	if err != nil {
		return err
	}
	resource, refusal, err := client.Post(ctx, stepapi.PathNetworkCheck, content, stepapi.MaxResponse)
	switch {
	case err != nil:
		return err
	case refusal != nil:
		return refusalError("the network check", refusal)
	case resource.Status != http.StatusNoContent:
		return fmt.Errorf("the proxy responded %d to POST %s: it is not Sallyport, or another version", resource.Status, stepapi.PathNetworkCheck)
	}
	return nil
}

// describe is what the proxy knows of the step, as one line.
func describe(s stepapi.Step) string {
	var parts []string
	for _, part := range []string{s.Principal.Repository, s.Principal.Deployment} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if s.Mode != "" {
		parts = append(parts, s.Mode+" mode")
	}
	if !s.TokenExpires.IsZero() {
		parts = append(parts, "token until "+s.TokenExpires.UTC().Format(time.TimeOnly)+" UTC")
	}
	return singleLine(strings.Join(parts, ", "))
}
