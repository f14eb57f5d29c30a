package bitbuckettest

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of a server outlives its Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
