package toolconfig

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Tools is the table. A new tool is one entry; go test ./step/toolconfig -run TestTable
// -update writes it into docs/step.md. An entry without variables and files states why
// the tool needs none.
var Tools = []Tool{
	{
		Name:   "variables",
		Sets:   "`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in upper and lower case",
		Why:    "what most clients read; curl and wget read `http_proxy` in lower case only",
		Source: "https://everything.curl.dev/usingcurl/proxies/env.html",
		variables: func(s *Settings) []Variable {
			return slices.Concat(both("HTTPS_PROXY", s.proxyURL()), both("HTTP_PROXY", s.proxyURL()), both("ALL_PROXY", s.proxyURL()),
				both("NO_PROXY", strings.Join(s.noProxy(), ",")))
		},
	},
	{
		Name:   "java",
		Sets:   "`JAVA_TOOL_OPTIONS`, after the options that it has",
		Why:    "Java programs ignore the environment; each prints one line with its options",
		Source: "https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/net/doc-files/net-properties.html",
		variables: func(s *Settings) []Variable {
			return []Variable{{"JAVA_TOOL_OPTIONS", s.javaOptions()}}
		},
	},
	{
		Name:   "maven",
		Sets:   "a proxy in `~/.m2/settings.xml`",
		Why:    "Maven's transport ignores the environment and Java's properties",
		Source: "https://maven.apache.org/guides/mini/guide-proxies.html",
		files: func(s *Settings) []File {
			return inHome(s.PasswdHome, ".m2/settings.xml", "maven", s.mavenProxy())
		},
	},
	{
		Name:   "gradle",
		Sets:   "`systemProp.*` in `gradle.properties` of `GRADLE_USER_HOME` (`~/.gradle`)",
		Why:    "the daemon takes its properties from the file",
		Source: "https://docs.gradle.org/current/userguide/networking.html",
		files: func(s *Settings) []File {
			if dir := s.Getenv("GRADLE_USER_HOME"); filepath.IsAbs(dir) {
				return inHome(dir, "gradle.properties", "block", s.gradleProperties())
			}
			return inHome(s.PasswdHome, ".gradle/gradle.properties", "block", s.gradleProperties())
		},
	},
	{
		Name:   "npm",
		Sets:   "`npm_config_proxy`, `npm_config_https_proxy`, `npm_config_noproxy`",
		Why:    "a proxy in `.npmrc` overrides `HTTPS_PROXY` in npm, pnpm and yarn 1; these variables override `.npmrc`",
		Source: "https://docs.npmjs.com/cli/v11/using-npm/config",
		variables: func(s *Settings) []Variable {
			return []Variable{{"npm_config_proxy", s.proxyURL()}, {"npm_config_https_proxy", s.proxyURL()}, {"npm_config_noproxy", strings.Join(s.noProxy(), ",")}}
		},
	},
	{
		Name:   "yarn",
		Sets:   "`YARN_HTTP_PROXY`, `YARN_HTTPS_PROXY`",
		Why:    "yarn 2 and later read no other variable (and reject `YARN_NO_PROXY`)",
		Source: "https://yarnpkg.com/configuration/yarnrc#httpProxy",
		variables: func(s *Settings) []Variable {
			return []Variable{{"YARN_HTTP_PROXY", s.proxyURL()}, {"YARN_HTTPS_PROXY", s.proxyURL()}}
		},
	},
	{
		Name:   "node",
		Sets:   "`NODE_USE_ENV_PROXY=1`",
		Why:    "`fetch` and `http` read the variables only with it (24.0, 22.21); `fetch` of earlier versions bypasses every proxy",
		Source: "https://nodejs.org/api/cli.html#node_use_env_proxy1",
		variables: func(*Settings) []Variable {
			return []Variable{{"NODE_USE_ENV_PROXY", "1"}}
		},
	},
	{
		Name:   "electron",
		Sets:   "`ELECTRON_GET_USE_PROXY`, `GLOBAL_AGENT_HTTP_PROXY`, `GLOBAL_AGENT_HTTPS_PROXY`, `GLOBAL_AGENT_NO_PROXY`",
		Why:    "the downloader of Electron, and other programs with global-agent, read these names only",
		Source: "https://www.electronjs.org/docs/latest/tutorial/installation#proxies",
		variables: func(s *Settings) []Variable {
			return []Variable{{"ELECTRON_GET_USE_PROXY", "1"}, {"GLOBAL_AGENT_HTTP_PROXY", s.proxyURL()}, {"GLOBAL_AGENT_HTTPS_PROXY", s.proxyURL()}, {"GLOBAL_AGENT_NO_PROXY", strings.Join(s.noProxy(), ",")}}
		},
	},
	{
		Name:   "docker",
		Sets:   "`proxies.default` in `config.json` of `DOCKER_CONFIG` (`~/.docker`), with `--listen-docker`",
		Why:    "the client passes it to `docker run`, and to builds as build arguments (BuildKit too); containers do not reach the step's loopback",
		Source: "https://docs.docker.com/engine/cli/proxy/",
		files: func(s *Settings) []File {
			switch dir := s.Getenv("DOCKER_CONFIG"); {
			case !s.Containers.IsValid():
				return nil
			case filepath.IsAbs(dir):
				return inHome(dir, "config.json", "docker", s.dockerProxies())
			default:
				return inHome(s.Home, ".docker/config.json", "docker", s.dockerProxies())
			}
		},
	},
	{
		Name:   "apt",
		Sets:   "`/etc/apt/apt.conf.d/99sallyport-step`, as root",
		Why:    "`sudo apt-get` loses the variables",
		Source: "https://manpages.debian.org/apt-transport-http.1",
		files: func(s *Settings) []File {
			if !s.Privileged {
				return nil
			}
			dir := filepath.Join(s.Root, "etc/apt/apt.conf.d")
			return []File{{Path: filepath.Join(dir, "99sallyport-step"), Needs: dir, Mode: 0o644, format: "whole", content: s.aptConfiguration()}}
		},
	},
	{
		Name:   "chromium",
		Sets:   "managed policies of Chromium, Chrome, Chrome for Testing and Edge in `/etc`, as root: `EncryptedClientHelloEnabled: false`",
		Why:    "with Encrypted ClientHello, the proxy does not see the target's name and closes the tunnel",
		Source: "https://chromeenterprise.google/policies/#EncryptedClientHelloEnabled",
		files: func(s *Settings) []File {
			if !s.Privileged {
				return nil
			}
			var list []File
			for _, dir := range []string{"etc/chromium", "etc/opt/chrome", "etc/opt/chrome_for_testing", "etc/opt/edge"} {
				list = append(list, File{Path: filepath.Join(s.Root, dir, "policies/managed/sallyport-step.json"), Mode: 0o644, format: "whole", content: "{\"EncryptedClientHelloEnabled\": false}\n"})
			}
			return list
		},
	},
	{
		Name:   "git",
		Sets:   "nothing",
		Why:    "git over https reads the variables; `http.proxy` stays unset, so that `http.<origin>.proxy` of Bitbucket's own proxy remains in force",
		Source: "https://git-scm.com/docs/git-config#Documentation/git-config.txt-httpproxy",
	},
	{
		Name:   "pip",
		Sets:   "nothing",
		Why:    "pip and uv read the variables; `PIP_PROXY` would disable `NO_PROXY`",
		Source: "https://pip.pypa.io/en/stable/user_guide/#using-a-proxy-server",
	},
	{
		Name:   "bun",
		Sets:   "nothing",
		Why:    "bun reads the variables",
		Source: "https://bun.com/docs/guides/http/proxy",
	},
	{
		Name:   "cargo",
		Sets:   "nothing",
		Why:    "cargo reads the variables",
		Source: "https://doc.rust-lang.org/cargo/reference/config.html#httpproxy",
	},
	{
		Name:   "dotnet",
		Sets:   "nothing",
		Why:    "HttpClient and NuGet read the variables since .NET Core 3.0",
		Source: "https://learn.microsoft.com/en-us/dotnet/api/system.net.http.httpclient.defaultproxy",
	},
}

// both is a variable in upper and in lower case.
func both(name, value string) []Variable {
	return []Variable{{name, value}, {strings.ToLower(name), value}}
}

// inHome is a file below a user's directory; none if the directory is unknown.
func inHome(home, path, format, content string) []File {
	if home == "" {
		return nil
	}
	return []File{{Path: filepath.Join(home, path), Mode: 0o600, format: format, content: content}}
}

// javaFirst and javaLast are the first and the last of our options, by which they are
// found again.
const (
	javaFirst = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort="
	javaLast  = " -Dhttp.nonProxyHosts="
)

// javaOptions adds our options to those of the environment, and replaces ours of an
// earlier start. Of an option that is given twice, Java uses the last.
func (s *Settings) javaOptions() string {
	host, port := s.forwarder().Addr().String(), strconv.Itoa(int(s.forwarder().Port()))
	ours := fmt.Sprintf("-Dhttp.proxyHost=%s -Dhttp.proxyPort=%s -Dhttps.proxyHost=%s -Dhttps.proxyPort=%s%s%s", host, port, host, port, javaLast, s.javaHosts())
	return strings.TrimLeft(withoutJavaOptions(s.Getenv("JAVA_TOOL_OPTIONS"))+" "+ours, " ")
}

// withoutJavaOptions removes what javaOptions added.
func withoutJavaOptions(options string) string {
	before, rest, found := strings.Cut(options, javaFirst)
	if !found {
		return options
	}
	_, last, found := strings.Cut(rest, javaLast)
	if !found {
		return options
	}
	_, after, _ := strings.Cut(last, " ")
	return strings.TrimRight(strings.TrimRight(before, " ")+" "+after, " ")
}

// mavenProxy is one proxy for both protocols: Maven's selector uses the one of protocol
// http for https repositories too, if there is no other.
func (s *Settings) mavenProxy() string {
	return fmt.Sprintf("<proxy><id>sallyport-step</id><active>true</active><protocol>http</protocol><host>%s</host><port>%d</port><nonProxyHosts>%s</nonProxyHosts></proxy>",
		s.forwarder().Addr(), s.forwarder().Port(), s.javaHosts())
}

func (s *Settings) gradleProperties() string {
	var b strings.Builder
	for _, scheme := range []string{"http", "https"} {
		fmt.Fprintf(&b, "systemProp.%[1]s.proxyHost=%[2]s\nsystemProp.%[1]s.proxyPort=%[3]d\nsystemProp.%[1]s.nonProxyHosts=%[4]s\n",
			scheme, s.forwarder().Addr(), s.forwarder().Port(), s.javaHosts())
	}
	return b.String()
}

// aptConfiguration names the hosts without a proxy one by one: apt has no NO_PROXY for a
// proxy of its configuration.
func (s *Settings) aptConfiguration() string {
	var b strings.Builder
	b.WriteString("// Written by sallyport-step start, removed by sallyport-step stop.\n")
	for _, scheme := range []string{"http", "https"} {
		fmt.Fprintf(&b, "Acquire::%s::Proxy \"%s\";\n", scheme, s.proxyURL())
		for _, host := range s.directHosts() {
			fmt.Fprintf(&b, "Acquire::%s::Proxy::%s \"DIRECT\";\n", scheme, host)
		}
	}
	return b.String()
}
