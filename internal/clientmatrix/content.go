package clientmatrix

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Content responds for every host of the upstream: a line of text, and one package in
// each of the registries that clients install from. git serves /git/library.git, deb
// is a Debian package, or nil.
func Content(git http.Handler, deb []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", greet)
	if git != nil {
		mux.Handle("/git/", git)
	}
	registerNpm(mux)
	registerPython(mux)
	registerGo(mux)
	registerMaven(mux)
	registerCargo(mux)
	registerImages(mux)
	registerGRPC(mux)
	if deb != nil {
		registerDebian(mux, deb)
	}
	return mux
}

// greet responds with a page.
func greet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<p>%s: %s %s</p>\n", Greeting, r.Method, r.URL.Path)
}

func file(mux *http.ServeMux, path, kind string, content []byte) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Header().Set("Last-Modified", published.Format(http.TimeFormat))
		if r.Method != http.MethodHead {
			_, _ = w.Write(content)
		}
	})
}

// published is when all packages were published.
var published = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// member is a file of an archive.
type member struct{ name, text string }

func tarball(members ...member) []byte {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	archive := tar.NewWriter(gz)
	for _, m := range members {
		must(archive.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.text)), ModTime: published}))
		must2(io.WriteString(archive, m.text))
	}
	must(archive.Close())
	must(gz.Close())
	return out.Bytes()
}

func zipped(members ...member) []byte {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, m := range members {
		must2(io.WriteString(must2(archive.CreateHeader(&zip.FileHeader{Name: m.name, Modified: published})), m.text))
	}
	must(archive.Close())
	return out.Bytes()
}

// must panics: writes into memory do not fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must2[T any](value T, err error) T {
	must(err)
	return value
}

func registerNpm(mux *http.ServeMux) {
	packed := tarball(member{"package/package.json", `{"name":"left-wall","version":"1.0.0"}`})
	sum, old := sha512.Sum512(packed), sha1.Sum(packed)
	mux.HandleFunc("/npm/left-wall", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"left-wall","dist-tags":{"latest":"1.0.0"},"time":{"1.0.0":"2026-11-01T12:00:00.000Z"},"versions":{"1.0.0":{"name":"left-wall","version":"1.0.0",
			"dist":{"tarball":"https://%s/npm/left-wall/-/left-wall-1.0.0.tgz","integrity":"sha512-%s","shasum":"%x"}}}}`,
			r.Host, base64.StdEncoding.EncodeToString(sum[:]), old)
	})
	file(mux, "/npm/left-wall/-/left-wall-1.0.0.tgz", "application/octet-stream", packed)
}

func registerPython(mux *http.ServeMux) {
	const name = "leftwall-1.0-py3-none-any.whl"
	wheel := zipped(
		member{"leftwall.py", "wall = 'left'\n"},
		member{"leftwall-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: leftwall\nVersion: 1.0\n"},
		member{"leftwall-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		member{"leftwall-1.0.dist-info/RECORD", "leftwall.py,,\nleftwall-1.0.dist-info/METADATA,,\nleftwall-1.0.dist-info/WHEEL,,\nleftwall-1.0.dist-info/RECORD,,\n"},
	)
	page := fmt.Appendf(nil, `<!DOCTYPE html><html><body><a href="../../files/%s#sha256=%x">%s</a></body></html>`, name, sha256.Sum256(wheel), name)
	file(mux, "/pypi/simple/leftwall/", "text/html", page)
	file(mux, "/pypi/files/"+name, "application/octet-stream", wheel)
}

func registerGo(mux *http.ServeMux) {
	const mod = "module left.example/wall\n\ngo 1.21\n"
	const prefix = "left.example/wall@v1.0.0/"
	file(mux, "/goproxy/left.example/wall/@v/list", "text/plain", []byte("v1.0.0\n"))
	file(mux, "/goproxy/left.example/wall/@v/v1.0.0.info", "application/json", []byte(`{"Version":"v1.0.0","Time":"2026-11-01T12:00:00Z"}`))
	file(mux, "/goproxy/left.example/wall/@v/v1.0.0.mod", "text/plain", []byte(mod))
	file(mux, "/goproxy/left.example/wall/@v/v1.0.0.zip", "application/zip", zipped(member{prefix + "go.mod", mod}, member{prefix + "wall.go", "package wall\n"}))
}

// registerMaven serves a parent project: its resolution needs no plugin.
func registerMaven(mux *http.ServeMux) {
	pom := []byte(`<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example.left</groupId>
  <artifactId>wall</artifactId>
  <version>1.0.0</version>
  <packaging>pom</packaging>
</project>
`)
	const path = "/maven/example/left/wall/1.0.0/wall-1.0.0.pom"
	file(mux, path, "text/xml", pom)
	file(mux, path+".sha1", "text/plain", fmt.Appendf(nil, "%x", sha1.Sum(pom)))
	file(mux, path+".md5", "text/plain", fmt.Appendf(nil, "%x", md5.Sum(pom)))
}

func registerCargo(mux *http.ServeMux) {
	crate := tarball(
		member{"leftwall-1.0.0/Cargo.toml", "[package]\nname = \"leftwall\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"},
		member{"leftwall-1.0.0/src/lib.rs", ""},
	)
	mux.HandleFunc("/cargo/config.json", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"dl":"https://%s/cargo/dl"}`, r.Host)
	})
	file(mux, "/cargo/le/ft/leftwall", "text/plain", fmt.Appendf(nil, `{"name":"leftwall","vers":"1.0.0","deps":[],"cksum":"%x","features":{},"yanked":false}`+"\n", sha256.Sum256(crate)))
	file(mux, "/cargo/dl/leftwall/1.0.0/download", "application/octet-stream", crate)
}

// registerImages serves one image as the OCI distribution specification has it.
func registerImages(mux *http.ServeMux) {
	layer := tarball(member{"wall", "left\n"})
	diff := sha256.Sum256(must2(io.ReadAll(must2(gzip.NewReader(bytes.NewReader(layer))))))
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]},"history":[{"created":"2026-11-01T12:00:00Z"}]}`, diff)
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":"sha256:%x"},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"digest":"sha256:%x"}]}`,
		manifestType, len(config), sha256.Sum256(config), len(layer), sha256.Sum256(layer))
	mux.HandleFunc("/v2/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	})
	serve := func(path, kind string, content []byte) {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			if r.Method != http.MethodHead {
				_, _ = w.Write(content)
			}
		})
	}
	serve("/v2/left/wall/manifests/1.0.0", manifestType, manifest)
	serve(fmt.Sprintf("/v2/left/wall/manifests/sha256:%x", sha256.Sum256(manifest)), manifestType, manifest)
	serve(fmt.Sprintf("/v2/left/wall/blobs/sha256:%x", sha256.Sum256(config)), "application/octet-stream", config)
	serve(fmt.Sprintf("/v2/left/wall/blobs/sha256:%x", sha256.Sum256(layer)), "application/octet-stream", layer)
}

// registerGRPC responds to a health check (grpc.health.v1) with SERVING: one message
// of two bytes, and the status in trailers.
func registerGRPC(mux *http.ServeMux) {
	mux.HandleFunc("/grpc.health.v1.Health/Check", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 0x08, 0x01})
		w.Header().Set("Grpc-Status", "0")
	})
}

// registerDebian serves a repository with one package, as apt reads it from a suite
// and from a flat directory.
func registerDebian(mux *http.ServeMux, deb []byte) {
	const name = "left-wall_1.0_all.deb"
	index := func(folder string) []byte {
		return fmt.Appendf(nil, "Package: left-wall\nVersion: 1.0\nArchitecture: all\nMaintainer: Acme <builds@acme.example>\nInstalled-Size: 1\n"+
			"Filename: %s%s\nSize: %d\nMD5sum: %x\nSHA256: %x\nDescription: a wall\n\n", folder, name, len(deb), md5.Sum(deb), sha256.Sum256(deb))
	}
	release := func(path string, content []byte) []byte {
		return fmt.Appendf(nil, "Origin: test\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: all amd64\nComponents: main\nMD5Sum:\n %x %d %s\nSHA256:\n %x %d %s\n",
			published.Format(time.RFC1123), md5.Sum(content), len(content), path, sha256.Sum256(content), len(content), path)
	}
	suite, flat := index("pool/"), index("./")
	file(mux, "/debian/dists/stable/Release", "text/plain", release("main/binary-amd64/Packages", suite))
	file(mux, "/debian/dists/stable/main/binary-amd64/Packages", "text/plain", suite)
	file(mux, "/debian/pool/"+name, "application/octet-stream", deb)
	file(mux, "/flat/Release", "text/plain", release("Packages", flat))
	file(mux, "/flat/Packages", "text/plain", flat)
	file(mux, "/flat/"+name, "application/octet-stream", deb)
	for _, path := range []string{"/debian/dists/stable/", "/flat/", "/debian/"} {
		mux.HandleFunc(path, http.NotFound)
	}
}
