package source

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Signers are the keys whose signature lets a commit decide.
type Signers struct {
	keys map[string]string // the key as SSH marshals it, and who it is
}

const maxSignersBytes = 1 << 20

// ReadSigners reads a file of public keys in OpenSSH's form, one a line: what is
// in authorized_keys, or in the allowed_signers file of ssh-keygen with the
// principal in front. A line with options is refused: there is none that this
// program would keep.
func ReadSigners(path string) (*Signers, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(text) > maxSignersBytes {
		return nil, fmt.Errorf("%s is over 1 MiB", path)
	}
	s, err := parseSigners(text)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return s, nil
}

func parseSigners(text []byte) (*Signers, error) {
	s := &Signers{keys: map[string]string{}}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(options) > 0 {
			// The form of allowed_signers: a principal before the key.
			principal, after, _ := strings.Cut(line, " ")
			key, _, options, rest, err = ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(after)))
			comment = principal
		}
		if err != nil || len(options) > 0 || len(rest) > 0 {
			return nil, fmt.Errorf("%d: it is not a public key such as ssh-ed25519 AAAA… name", n)
		}
		s.keys[string(key.Marshal())] = comment
	}
	if len(s.keys) == 0 {
		return nil, errors.New("1: it holds no public key")
	}
	return s, nil
}

// Verify returns who has signed a commit, given as git keeps it: the comment of
// the key. Only SSH signatures count (git config gpg.format ssh); the format is
// OpenSSH's PROTOCOL.sshsig.
func (s *Signers) Verify(commit []byte) (signer string, err error) {
	signature, signed, err := splitSignature(commit)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(signature)
	if block == nil || block.Type != "SSH SIGNATURE" {
		return "", errors.New("its signature is not one of an SSH key: set gpg.format to ssh, and commit again")
	}
	return s.verify(block.Bytes, signed)
}

// sshSignature is the blob of PROTOCOL.sshsig, after its magic bytes.
type sshSignature struct {
	Version       uint32
	PublicKey     []byte
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     []byte
}

// signedData is what the key signs, after the same magic bytes.
type signedData struct {
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Hash          []byte
}

const sshsigMagic = "SSHSIG"

func (s *Signers) verify(blob, message []byte) (string, error) {
	rest, ok := bytes.CutPrefix(blob, []byte(sshsigMagic))
	var sig sshSignature
	if !ok || ssh.Unmarshal(rest, &sig) != nil || sig.Version != 1 || sig.Namespace != "git" {
		return "", errors.New("its signature is not one that git makes")
	}
	who, listed := s.keys[string(sig.PublicKey)]
	if !listed {
		key, err := ssh.ParsePublicKey(sig.PublicKey)
		if err != nil {
			return "", errors.New("its signature has no key")
		}
		return "", fmt.Errorf("it is signed by %s, which policy.git.allowed_signers_file does not list", ssh.FingerprintSHA256(key))
	}
	var hash []byte
	switch sig.HashAlgorithm {
	case "sha512":
		sum := sha512.Sum512(message)
		hash = sum[:]
	case "sha256":
		sum := sha256.Sum256(message)
		hash = sum[:]
	default:
		return "", errors.New("its signature is over an unknown hash")
	}
	key, err := ssh.ParsePublicKey(sig.PublicKey)
	if err != nil {
		return "", errors.New("its signature has no key")
	}
	var by ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &by); err != nil {
		return "", errors.New("its signature cannot be read")
	}
	if by.Format == ssh.KeyAlgoRSA { // SHA-1
		return "", errors.New("its signature is over SHA-1")
	}
	data := append([]byte(sshsigMagic), ssh.Marshal(signedData{sig.Namespace, sig.Reserved, sig.HashAlgorithm, hash})...)
	if err := key.Verify(data, &by); err != nil {
		return "", errors.New("its signature does not fit: it was changed after it was signed")
	}
	return who, nil
}

// splitSignature takes the signature out of a commit: what is left is what was
// signed. Of several headers of that name git knows the first.
func splitSignature(commit []byte) (signature, signed []byte, err error) {
	head, body, ok := bytes.Cut(commit, []byte("\n\n"))
	if !ok {
		return nil, nil, errors.New("it is not a commit")
	}
	inside, found := false, false
	for line := range bytes.SplitAfterSeq(append(bytes.Clone(head), '\n'), []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		if rest, ok := bytes.CutPrefix(line, []byte("gpgsig ")); ok {
			if found {
				return nil, nil, errors.New("it has two signatures")
			}
			inside, found = true, true
			signature = append(signature, rest...)
			continue
		}
		if inside && line[0] == ' ' {
			signature = append(signature, line[1:]...)
			continue
		}
		inside = false
		signed = append(signed, line...)
	}
	if !found {
		return nil, nil, errors.New("it is not signed: sign commits with a key that policy.git.allowed_signers_file lists")
	}
	signed = append(append(signed, '\n'), body...)
	return signature, signed, nil
}
