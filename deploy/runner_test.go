package deploy_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/netcheck"
)

// The world outside of a runner. Every address of these networks answers.
const (
	proxy4, proxy6 = "192.0.2.10:3129", "[2001:db8:1::10]:3129"
	outsideHost    = "10.99.0.1"
	outsideWorld   = "10.99.0.2"
)

// around are the paths around the proxy.
var around = netcheck.Config{
	TCP: []string{"198.51.100.7"}, UDP: []string{"198.51.100.7"}, DNS: []string{"198.51.100.53"},
	IPv6: []string{"2001:db8::7"}, Metadata: []string{"169.254.169.254"},
}

// chains are the chains of the rules that reject, with the tests that each is for.
var chains = map[string][]string{
	"direct_tcp": {netcheck.TestTCP}, "direct_udp": {netcheck.TestUDP}, "dns": {netcheck.TestDNSUDP, netcheck.TestDNSTCP},
	"ipv6": {netcheck.TestIPv6}, "metadata": {netcheck.TestMetadata},
}

// newWorld connects this namespace to one in which every address answers.
func newWorld(t *testing.T) {
	t.Helper()
	// Rejects are ICMP messages, of which the kernel sends few for each destination.
	for _, file := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		writeSetting(t, file, "0")
	}
	world := startPeer(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	run(t, fmt.Sprintf("ip link set lo up; ip link add world0 type veth peer name host0 netns %d; ip addr add %s/24 dev world0; "+
		"ip addr add fd99::1/64 dev world0 nodad; ip link set world0 up", world.pid, outsideHost))
	world.must(t, "sh ip link set lo up; ip addr add "+outsideWorld+"/24 dev host0; ip addr add fd99::2/64 dev host0 nodad; ip link set host0 up; "+
		"for net in 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 169.254.0.0/16; do ip route add local $net dev lo; done; ip addr add 2001:db8::7/128 dev lo nodad; ip addr add 2001:db8:1::10/128 dev lo nodad; "+
		"ip route add default via "+outsideHost+"; ip -6 route add default via fd99::1")
	run(t, "ip route add default via "+outsideWorld+"; ip -6 route add default via fd99::2")
	world.must(t, "serve 198.51.100.7:443 192.0.2.10:443 192.0.2.10:3129 198.51.100.53:53 169.254.169.254:80 203.0.113.9:443 [2001:db8::7]:443 [2001:db8:1::10]:3129")
}

// writeSetting changes a setting of this network namespace.
func writeSetting(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// newContainer attaches a namespace to a bridge, as Docker does.
func newContainer(t *testing.T) *peer {
	t.Helper()
	c := startPeer(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	run(t, fmt.Sprintf("ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip addr add fd17::1/64 dev docker0 nodad; ip link set docker0 up; "+
		"ip link add c0 type veth peer name eth0 netns %d; ip link set c0 master docker0; ip link set c0 up", c.pid))
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		writeSetting(t, file, "1")
	}
	c.must(t, "sh ip link set lo up; ip addr add 172.17.0.2/16 dev eth0; ip addr add fd17::2/64 dev eth0 nodad; ip link set eth0 up; "+
		"ip route add default via 172.17.0.1; ip -6 route add default via fd17::1")
	return c
}

// expectOpen fails unless exactly the tests of these names are open, and all others are
// blocked.
func expectOpen(t *testing.T, what string, p *peer, c netcheck.Config, names ...string) {
	t.Helper()
	for result, outcome := range outcomes(t, p, c) {
		name, _, _ := strings.Cut(result, " ")
		want := stepapi.OutcomeBlocked
		for _, open := range names {
			if name == open {
				want = stepapi.OutcomeOpen
			}
		}
		if outcome != want {
			t.Errorf("%s: %s is %s, want %s", what, result, outcome, want)
		}
	}
}

// all are the names of every test.
var all = []string{netcheck.TestTCP, netcheck.TestUDP, netcheck.TestDNSUDP, netcheck.TestDNSTCP, netcheck.TestIPv6, netcheck.TestMetadata}

// expectEachIsNeeded loads the rules without the reject of each chain in turn: exactly the
// tests of that chain find a way out.
func expectEachIsNeeded(t *testing.T, rules string, p *peer, c netcheck.Config) {
	t.Helper()
	for chain, names := range chains {
		without := strings.Replace(rules, "chain "+chain+" {\n\t\tcounter reject with icmpx admin-prohibited\n", "chain "+chain+" {\n", 1)
		if without == rules {
			t.Fatalf("the rules have no chain %s with a reject", chain)
		}
		load(t, without)
		expectOpen(t, "without the reject of "+chain, p, c, names...)
	}
}

func expectProxyOnly(t *testing.T, p *peer) {
	t.Helper()
	for _, address := range []string{proxy4, proxy6} {
		p.must(t, "dial "+address)
	}
	for _, address := range []string{"192.0.2.10:443", "203.0.113.9:443"} {
		if reply := p.do(t, "dial "+address); reply == "ok" {
			t.Errorf("%s is reachable", address)
		}
	}
}

// TestShellRunnerRules: with the rules the runner's user reaches the proxy only, also not
// through a resolver on the machine; each reject is needed; other users are not limited.
func TestShellRunnerRules(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		newWorld(t)
		if err := serve("127.0.0.53:53"); err != nil {
			t.Fatal(err)
		}
		c := around
		c.DNS = append(c.DNS, "127.0.0.53")
		id := stepUserID(t)
		step := startPeer(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id), NoSetGroups: true}})
		rules := strings.Replace(read(t, "runner/shell.nft"), `"bitbucket-runner"`, fmt.Sprint(id), 1)
		load(t, "")
		expectOpen(t, "without rules", step, c, all...)
		load(t, rules)
		expectOpen(t, "with the rules", step, c)
		expectProxyOnly(t, step)
		if id != 0 {
			expectOpen(t, "another user", startPeer(t, &syscall.SysProcAttr{}), c, all...)
		}
		expectEachIsNeeded(t, rules, step, c)
		load(t, strings.Replace(rules, "set runner4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n", "set runner4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { 203.0.113.0/24 }\n", 1))
		step.must(t, "dial 203.0.113.9:443")
		expectOpen(t, "with a network of the runner", step, c)
	})
}

// TestDockerRunnerRules: with the rules a container reaches the proxy only, and not the
// machine; connections to a container work; each reject is needed.
func TestDockerRunnerRules(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		newWorld(t)
		step := newContainer(t)
		if err := serve("172.17.0.1:2375"); err != nil {
			t.Fatal(err)
		}
		step.must(t, "serve 172.17.0.2:8080")
		rules := read(t, "runner/docker.nft")
		load(t, "")
		expectOpen(t, "without rules", step, around, all...)
		step.must(t, "dial 172.17.0.1:2375")
		load(t, rules)
		expectOpen(t, "with the rules", step, around)
		expectProxyOnly(t, step)
		if reply := step.do(t, "dial 172.17.0.1:2375"); reply == "ok" {
			t.Error("a container reaches a port of the machine")
		}
		conn, err := net.DialTimeout("tcp", "172.17.0.2:8080", patience)
		if err != nil {
			t.Fatalf("the machine does not reach a port of a container: %v", err)
		}
		conn.Close()
		expectEachIsNeeded(t, rules, step, around)
		load(t, strings.Replace(rules, "\t\tiifname \"docker0\" jump step\n", "", 1))
		step.must(t, "dial 172.17.0.1:2375") // without the rule of the chain input
		load(t, strings.Replace(rules, "\t\tiifname \"docker0\" jump containers\n", "", 1))
		expectOpen(t, "without the rule of the chain forward", step, around, all...)
	})
}

// networkPolicy is the part of a NetworkPolicy that this test understands: anything else is
// an error.
type networkPolicy struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   map[string]string
	Spec       struct {
		PodSelector map[string]any `yaml:"podSelector"`
		PolicyTypes []string       `yaml:"policyTypes"`
		Ingress     []struct{}
		Egress      []struct {
			To []struct {
				IPBlock struct{ CIDR string } `yaml:"ipBlock"`
			}
			Ports []struct {
				Protocol string
				Port     int
			}
		}
	}
}

// rulesOf returns firewall rules with the meaning of a NetworkPolicy for every pod of a
// bridge (https://kubernetes.io/docs/concepts/services-networking/network-policies/): what
// no rule allows is rejected, if the policy is for egress at all.
func rulesOf(p *networkPolicy) string {
	var b strings.Builder
	b.WriteString("table inet translated {\n chain forward {\n  type filter hook forward priority 0; policy accept;\n")
	for _, rule := range p.Spec.Egress {
		for _, to := range rule.To {
			family := "ip"
			if strings.Contains(to.IPBlock.CIDR, ":") {
				family = "ip6"
			}
			for _, port := range rule.Ports {
				fmt.Fprintf(&b, "  iifname docker0 %s daddr %s %s dport %d accept\n", family, to.IPBlock.CIDR, strings.ToLower(port.Protocol), port.Port)
			}
		}
	}
	for _, direction := range p.Spec.PolicyTypes {
		if direction == "Egress" {
			b.WriteString("  iifname docker0 reject with icmpx admin-prohibited\n")
		}
	}
	return b.String() + " }\n}\n"
}

// TestKubernetesRunnerRules: a network that enforces the NetworkPolicy blocks every path
// around the proxy; the policy without its type, or with one more rule, does not.
func TestKubernetesRunnerRules(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		text := read(t, "runner/networkpolicy.yaml")
		parse := func(text string) *networkPolicy {
			var p networkPolicy
			if err := yaml.UnmarshalWithOptions([]byte(text), &p, yaml.Strict()); err != nil {
				t.Fatal(err)
			}
			return &p
		}
		p := parse(text)
		if p.APIVersion != "networking.k8s.io/v1" || p.Kind != "NetworkPolicy" || len(p.Spec.PodSelector) != 0 || len(p.Spec.Ingress) != 0 || len(p.Spec.Egress) == 0 {
			t.Fatalf("the policy was read as %+v", p)
		}
		newWorld(t)
		step := newContainer(t)
		load(t, rulesOf(p))
		expectOpen(t, "with the policy", step, around)
		step.must(t, "dial "+proxy4)
		step.must(t, "dial "+proxy6)
		step.must(t, "dial 203.0.113.9:443") // the runner's network of the example
		for names, rule := range map[string]string{
			netcheck.TestTCP: "198.51.100.7/32 TCP 443", netcheck.TestUDP: "198.51.100.7/32 UDP 443",
			netcheck.TestDNSUDP: "198.51.100.53/32 UDP 53", netcheck.TestDNSTCP: "198.51.100.53/32 TCP 53",
			netcheck.TestIPv6: "2001:db8::/48 TCP 443", netcheck.TestMetadata: "169.254.0.0/16 TCP 80",
		} {
			w := strings.Fields(rule)
			load(t, rulesOf(parse(text+fmt.Sprintf("    - to: [{ipBlock: {cidr: %q}}]\n      ports: [{protocol: %s, port: %s}]\n", w[0], w[1], w[2]))))
			expectOpen(t, "with a rule for "+rule, step, around, strings.Fields(names)...)
		}
		load(t, rulesOf(parse(strings.Replace(text, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", 1))))
		expectOpen(t, "without the type Egress", step, around, all...)
	})
}
