package webhookcmd

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/webhook"
)

// newSecret returns 256 random bits in hexadecimal digits: Bitbucket accepts at most 128
// characters.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// newStandardSecret returns a secret of Standard Webhooks with 256 random bits.
func newStandardSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(b)
}

// pathSuffix is the random part of a path: 128 bits.
func pathSuffix() string { return newSecret()[:32] }

// createSecret writes a secret into a file that only its owner can read. The file must not
// exist: it may be the secret of another receiver.
func createSecret(path, secret string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write the secret: %s exists: choose another name, or another file with --secret-file", path)
	}
	if err != nil {
		return fmt.Errorf("write the secret: %w", err)
	}
	_, err = f.WriteString(secret + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = durable.SyncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the secret: %w", err), os.Remove(path))
	}
	return nil
}

// replaceSecret replaces the content of a secret's file. A reader sees the old or the new
// secret. Owner and permissions of the file are kept.
func replaceSecret(path, secret string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary := path + ".new"
	_ = os.Remove(temporary) // of an interrupted command
	if err := createSecret(temporary, secret); err != nil {
		return err
	}
	err = errors.Join(keepOwner(temporary, info), os.Chmod(temporary, info.Mode().Perm()&0o640))
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace the secret in %s: %w", path, err), os.Remove(temporary))
	}
	return durable.SyncDirectory(filepath.Dir(path))
}

func unusedSecret() string { return webhook.UnusedSecretPrefix + newSecret() }

// unfinished reports whether a rotation has not ended with --drop. If both files have the
// same secret, [exchange] was interrupted: no new secret exists yet.
func unfinished(current, previous config.Secret) (bool, error) {
	old, err := previous.Read()
	if err != nil || strings.HasPrefix(old, webhook.UnusedSecretPrefix) {
		return false, err
	}
	text, err := current.Read()
	return text != old, err
}
