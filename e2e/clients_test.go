package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gitBackend serves one repository below /git/, over git's smart protocol.
func gitBackend(t *testing.T) http.Handler {
	t.Helper()
	root := t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main", "work"},
		{"-C", "work", "config", "user.email", "somebody@acme.example"},
		{"-C", "work", "config", "user.name", "Somebody"},
		{"-C", "work", "commit", "--quiet", "--allow-empty", "--message", "the first one"},
		{"clone", "--quiet", "--bare", "work", "library.git"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Root: "/git",
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
		// The repository may belong to another than the tests' user as git sees it.
		InheritEnv: []string{"PATH", "HOME"},
		Stderr:     io.Discard,
	}
}

// testGit: git sends its credential only after a 407, on a new connection.
func testGit(t *testing.T, w *fixture) {
	c := w.anybody()
	to := filepath.Join(t.TempDir(), "clone")
	cmd := exec.CommandContext(t.Context(), "git", "-c", "http.sslCAInfo="+w.CAFile, "clone", "--quiet", w.https("git.partner.example", "/git/library.git"), to)
	cmd.Env = environment("HTTPS_PROXY="+c.proxyURL(w.proxy), "https_proxy="+c.proxyURL(w.proxy), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1")
	if code, _, output := execute(t, cmd); code != 0 {
		t.Fatalf("git clone ended with %d: %s", code, output)
	}
	if code, out, output := execute(t, exec.Command("git", "-C", to, "log", "--format=%s")); code != 0 || out != "the first one\n" {
		t.Fatalf("the clone has %q: %s", out, output)
	}
	rows := w.decisions(t, c.step.UUID)
	if len(rows) == 0 {
		t.Fatal("nothing is on record")
	}
	for _, row := range w.closed(t, c, len(rows)) {
		w.both(t, row, fields{"verdict": "allow", "rule": "everybody", "host": "git.partner.example"})
		orderly(t, row)
	}

	refused := w.anybody()
	cmd = exec.CommandContext(t.Context(), "git", "-c", "http.sslCAInfo="+w.CAFile, "clone", "--quiet", w.https("nobody.listed.example", "/git/library.git"), to+"2")
	cmd.Env = environment("HTTPS_PROXY="+refused.proxyURL(w.proxy), "https_proxy="+refused.proxyURL(w.proxy), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1")
	if code, _, output := execute(t, cmd); code == 0 || !strings.Contains(output, "403") {
		t.Fatalf("git clone ended with %d: %s", code, output)
	}
	w.both(t, w.decision(t, refused), fields{"verdict": "deny", "reason": "no_rule_matched", "host": "nobody.listed.example"})
}

func testGo(t *testing.T, w *fixture) {
	c := w.production()
	client := w.client(t, c)
	for _, url := range []string{w.https("api.partner.example", "/from-go"), w.http("api.partner.example", "/from-go")} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "saw GET /from-go") {
			t.Fatalf("%s: %s %q %v", url, resp.Status, body, err)
		}
	}
	client.CloseIdleConnections()
	rows := w.closed(t, c, 2)
	w.both(t, rows[0], fields{"verdict": "allow", "action": "connect", "rule": "partner-api"})
	orderly(t, rows[0])
	w.both(t, rows[1], fields{"verdict": "allow", "action": "request", "rule": "partner-api", "close_reason": "finished"})

	refused := w.caller(w.Payments, nil, "feature/x")
	_, err := w.client(t, refused).Get(w.https("api.partner.example", "/"))
	// Go shows the status line's text and nothing else: the reason is there.
	if err == nil || !strings.Contains(err.Error(), "no_rule_matched") {
		t.Errorf("the client says %v", err)
	}
	w.both(t, w.decision(t, refused), fields{"verdict": "deny", "reason": "no_rule_matched"})
}

// testPython: its standard library sends CONNECT as HTTP/1.0.
func testPython(t *testing.T, w *fixture) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("python3 is not installed")
		return
	}
	const script = `import os, ssl, urllib.request, urllib.error
context = ssl.create_default_context(cafile=os.environ["CA"])
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
try:
    print(opener.open(os.environ["URL"], timeout=40).read().decode(), end="")
except (OSError, urllib.error.URLError) as e:
    print("refused:", e)
`
	run := func(c caller, url string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), python, "-c", script)
		cmd.Env = environment("https_proxy="+c.proxyURL(w.proxy), "CA="+w.CAFile, "URL="+url)
		code, out, output := execute(t, cmd)
		if code != 0 {
			t.Fatalf("python ended with %d: %s", code, output)
		}
		return out
	}
	c := w.production()
	if out := run(c, w.https("api.partner.example", "/from-python")); !strings.Contains(out, "saw GET /from-python") {
		t.Fatalf("python got %q", out)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "rule": "partner-api"})
	refused := w.caller(w.Payments, nil, "feature/x")
	if out := run(refused, w.https("api.partner.example", "/")); !strings.Contains(out, "403 Sallyport no_rule_matched") {
		t.Errorf("python does not show the reason: %q", out)
	}
	w.both(t, w.decision(t, refused), fields{"verdict": "deny", "reason": "no_rule_matched"})
}

// registry is a package registry with one package in it.
func registry(t *testing.T) http.Handler {
	t.Helper()
	const manifest = `{"name":"left-wall","version":"1.0.0"}`
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	archive := tar.NewWriter(gz)
	if err := archive.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(manifest))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(archive, manifest); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(packed.Bytes())
	mux := http.NewServeMux()
	mux.HandleFunc("registry.partner.example/left-wall", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"left-wall","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"left-wall","version":"1.0.0",
			"dist":{"tarball":"https://%s/left-wall-1.0.0.tgz","integrity":"sha512-%s"}}}}`, r.Host, base64.StdEncoding.EncodeToString(sum[:]))
	})
	mux.HandleFunc("registry.partner.example/left-wall-1.0.0.tgz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(packed.Bytes())
	})
	return mux
}

func testNpm(t *testing.T, w *fixture) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Log("npm is not installed")
		return
	}
	c := w.anybody()
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "package.json"), []byte(`{"name":"app","version":"1.0.0","private":true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts",
		"--fetch-retries=0", "--cache", filepath.Join(directory, "cache"), "--userconfig", os.DevNull, "--cafile", w.CAFile,
		"--registry", w.https("registry.partner.example", "/"), "left-wall")
	cmd.Dir = directory
	cmd.Env = environment("HTTPS_PROXY="+c.proxyURL(w.proxy), "https_proxy="+c.proxyURL(w.proxy))
	if code, _, output := execute(t, cmd); code != 0 {
		t.Fatalf("npm ended with %d: %s", code, output)
	}
	if _, err := os.Stat(filepath.Join(directory, "node_modules", "left-wall", "package.json")); err != nil {
		t.Error(err)
	}
	rows := w.decisions(t, c.step.UUID)
	if len(rows) == 0 {
		t.Fatal("nothing is on record")
	}
	for _, row := range w.closed(t, c, len(rows)) {
		w.both(t, row, fields{"verdict": "allow", "rule": "everybody", "host": "registry.partner.example"})
	}
}

// testJava: the JDK's own client, which waits for a 407 and needs a setting that
// allows Basic for tunnels.
func testJava(t *testing.T, w *fixture) {
	java, err := exec.LookPath("java")
	if err != nil {
		t.Log("java is not installed")
		return
	}
	const program = `import java.io.*; import java.net.*; import java.nio.file.*; import java.security.*; import java.security.cert.*; import javax.net.ssl.*;
public class Visit {
  public static void main(String[] a) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(Files.newInputStream(Path.of(a[0]))));
    TrustManagerFactory f = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    f.init(trusted);
    SSLContext tls = SSLContext.getInstance("TLS");
    tls.init(null, f.getTrustManagers(), null);
    Authenticator.setDefault(new Authenticator() {
      protected PasswordAuthentication getPasswordAuthentication() { return new PasswordAuthentication("step", System.getenv("TOKEN").toCharArray()); }
    });
    String[] proxy = a[1].split(":");
    HttpsURLConnection c = (HttpsURLConnection) new URL(a[2]).openConnection(
        new Proxy(Proxy.Type.HTTP, new InetSocketAddress(proxy[0], Integer.parseInt(proxy[1]))));
    c.setSSLSocketFactory(tls.getSocketFactory());
    try { System.out.print(new String(c.getInputStream().readAllBytes())); } catch (IOException e) { System.out.println("refused: " + e.getMessage()); }
  }
}
`
	source := filepath.Join(t.TempDir(), "Visit.java")
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(c caller, url string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Djdk.http.auth.tunneling.disabledSchemes=", source, w.CAFile, w.proxy, url)
		cmd.Env = environment("TOKEN=" + c.token)
		code, out, output := execute(t, cmd)
		if code != 0 {
			t.Fatalf("java ended with %d: %s", code, output)
		}
		return out
	}
	c := w.production()
	if out := run(c, w.https("api.partner.example", "/from-java")); !strings.Contains(out, "saw GET /from-java") {
		t.Fatalf("java got %q", out)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "rule": "partner-api"})
	refused := w.caller(w.Payments, nil, "feature/x")
	if out := run(refused, w.https("api.partner.example", "/")); !strings.Contains(out, "no_rule_matched") {
		t.Errorf("java does not show the reason: %q", out)
	}
	w.both(t, w.decision(t, refused), fields{"verdict": "deny", "reason": "no_rule_matched"})
}
