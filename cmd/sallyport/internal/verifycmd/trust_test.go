package verifycmd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// TestKeysThroughALink: --key takes the name of a link to a file of keys.
func TestKeysThroughALink(t *testing.T) {
	t.Parallel()
	private, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	whole, named := filepath.Join(folder, "key"), filepath.Join(folder, "named")
	if err := errors.Join(os.WriteFile(whole, []byte(signer.Key()), 0o600), os.Symlink(whole, named)); err != nil {
		t.Fatal(err)
	}
	if keys, err := readKeys(t.Context(), named); err != nil || len(keys) != 1 {
		t.Errorf("a link to a file of keys: %v, %v", keys, err)
	}
}
