//go:build !linux

package e2e

import (
	"errors"
	"testing"
)

const (
	inside    = "SALLYPORT_TEST_NETWORK"
	noNetwork = 77
)

var errNoNamespaces = errors.New("network namespaces are Linux's")

func enterNetwork(*testing.T, string) (made bool, why string) { return false, errNoNamespaces.Error() }

func anywhere() error { return errNoNamespaces }

type packets struct{}

func watchPackets() (*packets, error) { return nil, errNoNamespaces }

func (*packets) since() ([]dialled, error) { return nil, errNoNamespaces }
