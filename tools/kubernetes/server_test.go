package kubernetes

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// serverDirectory names the data of the server, in the process that is one.
const serverDirectory = "SALLYPORT_TEST_APISERVER"

const adminToken = "administrator-0123456789"

func TestMain(m *testing.M) {
	if directory := os.Getenv(serverDirectory); directory != "" {
		log.Fatal(serve(directory))
	}
	os.Exit(m.Run())
}

// serve runs etcd and kube-apiserver on loopback until standard input is closed: until the
// test that started the process ends.
func serve(directory string) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
		time.Sleep(5 * time.Second)
		os.Exit(1)
	}()
	var ports [3]string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
		_ = l.Close()
	}
	c := embed.NewConfig()
	c.Dir, c.LogLevel, c.UnsafeNoFsync = filepath.Join(directory, "etcd"), "error", true
	client, peer := url.URL{Scheme: "http", Host: "127.0.0.1:" + ports[0]}, url.URL{Scheme: "http", Host: "127.0.0.1:" + ports[1]}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case <-ctx.Done():
		return nil
	}
	if err := os.WriteFile(filepath.Join(directory, "address"), []byte("127.0.0.1:"+ports[2]), 0o600); err != nil {
		return err
	}
	command := app.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + client.String(), "--secure-port=" + ports[2], "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--cert-dir=" + filepath.Join(directory, "tls"), "--token-auth-file=" + filepath.Join(directory, "tokens.csv"),
		"--authorization-mode=RBAC", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + filepath.Join(directory, "key.pem"),
		"--service-account-signing-key-file=" + filepath.Join(directory, "key.pem"),
	})
	return command.ExecuteContext(ctx)
}

// cluster is a running API server and its administrator.
type cluster struct {
	t       *testing.T
	url     *url.URL
	roots   *x509.CertPool
	client  *http.Client
	plurals map[string]string // the path of each kind that was created
}

// start starts a server in a process of its own.
func start(t *testing.T) *cluster {
	t.Helper()
	directory := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), "tokens.csv": []byte(adminToken + ",admin,admin,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var output bytes.Buffer
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), serverDirectory+"="+directory)
	server.Stdout, server.Stderr = &output, &output
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the server's output ends with:\n%s", output.Bytes()[max(0, output.Len()-4000):])
		}
	})
	c := &cluster{t: t, plurals: map[string]string{}}
	deadline := time.Now().Add(2 * time.Minute)
	for c.client == nil || !c.ready() {
		if time.Now().After(deadline) {
			t.Fatal("the API server is not ready")
		}
		time.Sleep(100 * time.Millisecond)
		c.connect(directory)
	}
	return c
}

// connect reads the address and the certificate, once the server has written them.
func (c *cluster) connect(directory string) {
	address, err := os.ReadFile(filepath.Join(directory, "address"))
	certificate, certificateErr := os.ReadFile(filepath.Join(directory, "tls", "apiserver.crt"))
	if err != nil || certificateErr != nil || len(certificate) == 0 {
		return
	}
	c.url, c.roots = &url.URL{Scheme: "https", Host: string(address)}, x509.NewCertPool()
	if c.roots.AppendCertsFromPEM(certificate) {
		c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots}}}
	}
}

func (c *cluster) ready() bool {
	status, _, err := c.send(http.MethodGet, "/readyz", nil)
	return err == nil && status == http.StatusOK
}

// send makes one request as the administrator.
func (c *cluster) send(method, path string, body any) (status int, response map[string]any, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	request, err := http.NewRequest(method, c.url.String()+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	_ = json.NewDecoder(answer.Body).Decode(&response)
	return answer.StatusCode, response, nil
}

// must makes one request that has to succeed.
func (c *cluster) must(method, path string, body any) map[string]any {
	c.t.Helper()
	status, response, err := c.send(method, path, body)
	if err != nil || status/100 != 2 {
		c.t.Fatalf("%s %s: status %d, %v: %v", method, path, status, err, response["message"])
	}
	return response
}

type object = map[string]any

// define creates a resource of which any content is accepted, and waits until it is served.
func (c *cluster) define(group, version, kind, plural string, withStatus bool) {
	c.t.Helper()
	served := object{
		"name": version, "served": true, "storage": true,
		"schema": object{"openAPIV3Schema": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
	}
	if withStatus {
		served["subresources"] = object{"status": object{}}
	}
	c.must(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": object{"name": plural + "." + group},
		"spec": object{"group": group, "scope": "Namespaced", "names": object{"plural": plural, "singular": plural + "-one", "kind": kind, "listKind": kind + "List"}, "versions": []any{served}},
	})
	path := fmt.Sprintf("/apis/%s/%s/namespaces/%s/%s", group, version, namespace, plural)
	c.plurals[kind] = path
	deadline := time.Now().Add(time.Minute)
	for {
		if status, _, err := c.send(http.MethodGet, path, nil); err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is not served", path)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// create creates an object. Its status is set through the subresource, as a controller does.
func (c *cluster) create(apiVersion, kind, name string, labels object, spec, status object) {
	c.t.Helper()
	created := c.must(http.MethodPost, c.plurals[kind], object{
		"apiVersion": apiVersion, "kind": kind, "metadata": object{"name": name, "labels": labels, "annotations": object{"kept": "yes"}}, "spec": spec,
	})
	if status != nil {
		created["status"] = status
		c.must(http.MethodPut, c.plurals[kind]+"/"+name+"/status", created)
	}
}

// annotations returns those of an object.
func (c *cluster) annotations(kind, name string) object {
	c.t.Helper()
	metadata, _ := c.must(http.MethodGet, c.plurals[kind]+"/"+name, nil)["metadata"].(object)
	annotations, _ := metadata["annotations"].(object)
	return annotations
}

// token returns a new token of a service account, valid for ten minutes.
func (c *cluster) token(account string) string {
	c.t.Helper()
	made := c.must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", object{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": object{"expirationSeconds": 600},
	})
	status, _ := made["status"].(object)
	text, _ := status["token"].(string)
	return text
}
