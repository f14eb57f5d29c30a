package source

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// key makes a key pair, the private one in OpenSSH's form in a file.
func key(t *testing.T, path string) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// serveSSH serves a repository to the holder of the client's key.
func serveSSH(t *testing.T, host ssh.Signer, client ssh.PublicKey, repository string) (address string) {
	t.Helper()
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || string(k.Marshal()) != string(client.Marshal()) {
			return nil, io.EOF
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSHConnection(conn, config, repository)
		}
	}()
	return l.Addr().String()
}

func serveSSHConnection(conn net.Conn, config *ssh.ServerConfig, repository string) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				if r.Type != "exec" || !strings.Contains(string(r.Payload), "git-upload-pack") {
					_ = r.Reply(r.Type == "env", nil)
					continue
				}
				_ = r.Reply(true, nil)
				cmd := exec.Command("git", "upload-pack", repository)
				cmd.Stdin, cmd.Stdout = channel, channel
				if err := cmd.Start(); err == nil {
					_ = cmd.Wait()
				}
				_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
				return
			}
		}()
	}
}

// TestGitOverSSH fetches with the ssh program from a server of this process.
func TestGitOverSSH(t *testing.T) {
	f := newForge(t)
	want := f.commit("egress/a.rego", ruleText)
	keys := t.TempDir()
	host, client := key(t, filepath.Join(keys, "host")), key(t, filepath.Join(keys, "client key"))
	key(t, filepath.Join(keys, "stranger"))
	address := serveSSH(t, host, client.PublicKey(), filepath.Join(f.work, ".git"))
	port := address[strings.LastIndex(address, ":")+1:]
	known, unknown := filepath.Join(keys, "known hosts"), filepath.Join(keys, "unknown")
	line := "[127.0.0.1]:" + port + " " + string(ssh.MarshalAuthorizedKey(host.PublicKey()))
	for path, text := range map[string]string{known: line, unknown: "other.example " + string(ssh.MarshalAuthorizedKey(client.PublicKey()))} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	over := func(keyFile, knownHosts string) *Git {
		return f.source(func(c *GitConfig) {
			c.URL, c.CAFile, c.Token = "ssh://git@"+address+"/policy.git", "", nil
			c.SSHKeyFile, c.KnownHostsFile = keyFile, knownHosts
		})
	}
	if s := offered(t, over(filepath.Join(keys, "client key"), known), ""); s.Commit != want {
		t.Error(s.Commit)
	}
	refused(t, over(filepath.Join(keys, "stranger"), known), "", Unreachable, "name a private key without a passphrase")
	refused(t, over(filepath.Join(keys, "client key"), unknown), "", Unreachable, "policy.git.known_hosts_file: add it there")
}
