package main

import (
	"context"
	"encoding/json"
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
	resource, refusal, err := client.Get(ctx, stepapi.PathStep+"?"+stepapi.ParameterFormat+"="+stepapi.FormatJSON, stepapi.MaxResponse)
	switch {
	case err != nil:
		return "", fmt.Errorf("check the proxy: %w", err)
	case refusal != nil && refusal.Status < http.StatusInternalServerError && refusal.Status != http.StatusTooManyRequests:
		line := forwarder.Refusal{Refusal: *refusal, Target: "the step"}.Line()
		return "", fmt.Errorf("check the proxy: %s", strings.TrimSpace(strings.TrimPrefix(line, "sallyport: ")))
	case refusal != nil:
		return "", nil // the proxy is overloaded or stopped: each request is answered for itself
	case resource.Status != http.StatusOK:
		return "", fmt.Errorf("check the proxy: it responded %d to GET %s: it is not Sallyport, or another version", resource.Status, stepapi.PathStep)
	}
	var step stepapi.Step
	if err := json.Unmarshal(resource.Body, &step); err != nil {
		return "", fmt.Errorf("check the proxy: its response to GET %s is not valid: %w", stepapi.PathStep, err)
	}
	return describe(step), nil
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
