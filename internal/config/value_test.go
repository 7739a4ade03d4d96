package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestVariablesExpand holds every form of a variable.
func TestVariablesExpand(t *testing.T) {
	t.Parallel()
	f := func(text, want, wantProblem string) {
		t.Helper()
		d := newDecoder("x", testOptions(t))
		got, problem := d.expand(text, false)
		if got != want || !strings.HasPrefix(problem, wantProblem) || (wantProblem == "") != (problem == "") {
			t.Errorf("%q: got %q and %q, want %q and %q", text, got, problem, want, wantProblem)
		}
	}
	f("", "", "")
	f("plain", "plain", "")
	f("${NAME}", "support", "")
	f("a${NAME}b${PORT}c", "asupportb9000c", "")
	// a variable that is set to nothing is set
	f("[${EMPTY}]", "[]", "")
	f("${NAME:-other}", "support", "")
	f("${UNSET:-other}", "other", "")
	f("${UNSET:-}", "", "")
	// as in a shell, the default also stands in for nothing
	f("${EMPTY:-other}", "other", "")
	f("${UNSET:-http://127.0.0.1:8000}", "http://127.0.0.1:8000", "")
	f("${UNSET:-a$$b}", "a$b", "")
	// dollars
	f("$$", "$", "")
	f("$${NAME}", "${NAME}", "")
	f("$$$$", "$$", "")
	f("$$${NAME}", "$support", "")
	f("$", "$", "")
	f("cost: 5$", "cost: 5$", "")
	f("$NAME", "$NAME", "")
	f("$(NAME)", "$(NAME)", "")
	// mistakes
	f("${UNSET}", "", "the environment variable UNSET is not set")
	f("${", "", "has a ${ without its }")
	f("a ${NAME", "", "has a ${ without its }")
	f("${}", "", "has a ${…} that is neither")
	f("${ NAME }", "", "has a ${…} that is neither")
	f("${1A}", "", "has a ${…} that is neither")
	f("${NAME-x}", "", "has a ${…} that is neither")
	f("${NAME:?x}", "", "has a ${…} that is neither")
	f("${UNSET:-${NAME}}", "", "has a default that is a variable itself")
}

// TestVariablesWorkInEveryScalar expands where numbers, switches and lists are wanted.
func TestVariablesWorkInEveryScalar(t *testing.T) {
	t.Parallel()
	c := parse(t, `
auth: {mode: none}
server: {listen: "127.0.0.1:${PORT}", max_connections: "${PORT}", max_body: "${UNSET:-1MiB}", timeouts: {body: "${UNSET:-7s}"}}
log: {access: "${UNSET:-false}"}
translate: {strict: "${YES}"}
default_agent: ${NAME}
agents:
  - {name: "${NAME}", aliases: ["${NAME}-*"], protocol: "${UNSET:-cycls}", url: "http://127.0.0.1:${PORT}", headers: {X-A: "${PORT}"}}
`)
	if c.Server.Listen != "127.0.0.1:9000" || c.Server.MaxConnections != 9000 || c.Server.MaxBody != MiB ||
		c.Server.Timeouts.Body != 7*time.Second || c.Log.Access || !c.Translate.Strict || c.Default() == nil ||
		c.Lookup("support-x") == nil || c.Agents[0].URLs[0].Host != "127.0.0.1:9000" || c.Agents[0].Headers[0].Value != "9000" {
		t.Errorf("got %+v", c)
	}
}

// TestExpansionIsBounded keeps a long variable from filling the memory out of a small file.
func TestExpansionIsBounded(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Getenv = func(string) (string, bool) { return strings.Repeat("x", 100_000), true }
	c, problems := Parse("x", []byte(minimal+"    description: \""+strings.Repeat("${A}", 1000)+"\"\n"), o)
	if c != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "expands to too much") {
		t.Errorf("got %.200v", problems)
	}
}

// TestSizesParseAndPrint holds both directions.
func TestSizesParseAndPrint(t *testing.T) {
	t.Parallel()
	f := func(text string, want Size, wantPrint string) {
		t.Helper()
		got, err := ParseSize(text)
		if err != nil || got != want || got.String() != wantPrint {
			t.Errorf("%q: got %d (%v) and %v, want %d (%s)", text, got, got, err, want, wantPrint)
		}
	}
	f("0", 0, "0B")
	f("512", 512, "512B")
	f("512B", 512, "512B")
	f("1KB", 1000, "1000B")
	f("1KiB", 1024, "1KiB")
	f("1536KiB", 1536*KiB, "1536KiB")
	f("2048KiB", 2*MiB, "2MiB")
	f("20MiB", 20*MiB, "20MiB")
	f("20MB", 20_000_000, "20000000B")
	f("3GB", 3_000_000_000, "3000000000B")
	f("1GiB", GiB, "1GiB")
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "1 MiB", "1mib", "1M", "1TiB", "9999999999GiB", "99999999999999999999", "0x10", "1_000"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// TestPatternsMatch holds what a star means.
func TestPatternsMatch(t *testing.T) {
	t.Parallel()
	f := func(pattern, word string, want bool) {
		t.Helper()
		if got := Match(pattern, word); got != want {
			t.Errorf("%q %q: got %v, want %v", pattern, word, got, want)
		}
	}
	f("*", "", true)
	f("*", "anything/at all", true)
	f("", "", true)
	f("", "a", false)
	f("a", "a", true)
	f("a", "A", false)
	f("a*", "a", true)
	f("a*", "ab", true)
	f("a*", "ba", false)
	f("*a", "ba", true)
	f("*a", "ab", false)
	f("a*c", "abbc", true)
	f("a*c", "abcb", false)
	f("a*b*c", "a-b-b-c", true)
	f("*ab*ab", "abab", true)
	f("*ab*ab", "ab", false)
	f("**", "x", true)
	// everything else stands for itself
	f("a?c", "abc", false)
	f("[a]", "a", false)
	f("gpt.4", "gpt-4", false)
	f("*b", "a*b", true)
	f("*", "*", true)
	// the pattern that hurts a backtracking matcher
	f(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 1000), false)
}

// TestURLsParse holds what becomes of a good url.
func TestURLsParse(t *testing.T) {
	t.Parallel()
	f := func(text string, want Target, wantString string, loopback bool) {
		t.Helper()
		got, problem := parseTarget(text, true, testProtocols)
		if problem != "" || got != want || got.String() != wantString || got.Loopback() != loopback {
			t.Errorf("%s: got %+v (%v, loopback %v) and %q, want %+v", text, got, got, got.Loopback(), problem, want)
		}
	}
	f("http://127.0.0.1:8000", Target{Scheme: "http", Host: "127.0.0.1:8000"}, "http://127.0.0.1:8000", true)
	f("http://127.0.0.1", Target{Scheme: "http", Host: "127.0.0.1:80"}, "http://127.0.0.1:80", true)
	f("http://127.0.0.1:", Target{Scheme: "http", Host: "127.0.0.1:80"}, "http://127.0.0.1:80", true)
	f("https://Agent.Internal/", Target{Scheme: "https", Host: "agent.internal:443"}, "https://agent.internal:443", false)
	f("HTTPS://a_b.svc.cluster.local.:08443/v1/x/", Target{Scheme: "https", Host: "a_b.svc.cluster.local.:8443", BasePath: "/v1/x"},
		"https://a_b.svc.cluster.local.:8443/v1/x", false)
	f("http://[::1]:8000/a%2Fb", Target{Scheme: "http", Host: "[::1]:8000", BasePath: "/a%2Fb"}, "http://[::1]:8000/a%2Fb", true)
	f("http://[2001:DB8::1]", Target{Scheme: "http", Host: "[2001:db8::1]:80"}, "http://[2001:db8::1]:80", false)
	f("http://localhost:1", Target{Scheme: "http", Host: "localhost:1"}, "http://localhost:1", true)
	f("http://a.localhost:1", Target{Scheme: "http", Host: "a.localhost:1"}, "http://a.localhost:1", true)
	f("http://169.254.1.1", Target{Scheme: "http", Host: "169.254.1.1:80"}, "http://169.254.1.1:80", false)
	f("http://[fe80::1%25Eth0]:1", Target{Scheme: "http", Host: "[fe80::1%Eth0]:1"}, "http://[fe80::1%Eth0]:1", false)
	f("http://127.0.0.1/{id}/x", Target{Scheme: "http", Host: "127.0.0.1:80", BasePath: "/{id}/x"}, "http://127.0.0.1:80/{id}/x", true)
	f("unix:/run/agent.sock", Target{Scheme: "unix", Path: "/run/agent.sock"}, "unix:/run/agent.sock", true)
	f("demo:swarms", Target{Scheme: "demo", Demo: "swarms"}, "demo:swarms", true)
	if got := (Target{}).String(); got != "" {
		t.Errorf("got %q of nothing", got)
	}
}

// TestLinkLocalAddresses holds the addresses that give out credentials; whoever dials asks the same function.
func TestLinkLocalAddresses(t *testing.T) {
	t.Parallel()
	f := func(addr string, want bool) {
		t.Helper()
		if got := IsLinkLocal(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
	f("169.254.169.254", true)
	f("169.254.0.1", true)
	f("::ffff:169.254.169.254", true)
	f("fe80::1", true)
	f("ff02::1", true)
	f("fd20:ce::254", true)
	f("100.100.100.200", true)
	f("168.63.129.16", true)
	f("febf::1%eth0", true)
	f("fd00:ec2::254", true)
	f("fd00:ec2::254%eth0", true)
	f("fd00:ec2::253", false)
	f("127.0.0.1", false)
	f("10.0.0.1", false)
	f("::1", false)
	f("fec0::1", false)
}

// TestListenersAreNormalised holds what becomes of a good listener.
func TestListenersAreNormalised(t *testing.T) {
	t.Parallel()
	f := func(text, wantListen, wantNetwork, wantAddress string) {
		t.Helper()
		listen, problem := parseListen(text)
		network, address := Server{Listen: listen}.Network()
		if problem != "" || listen != wantListen || network != wantNetwork || address != wantAddress {
			t.Errorf("%s: got %s, %s, %s and %q", text, listen, network, address, problem)
		}
	}
	f("127.0.0.1:8080", "127.0.0.1:8080", "tcp", "127.0.0.1:8080")
	f("127.9.9.9:0", "127.9.9.9:0", "tcp", "127.9.9.9:0")
	f("[::1]:8080", "[::1]:8080", "tcp", "[::1]:8080")
	// what a name means is for others to say
	f("LocalHost:80", "127.0.0.1:80", "tcp", "127.0.0.1:80")
	f("unix:/run/d.sock", "unix:/run/d.sock", "unix", "/run/d.sock")
	f(":8080", ":8080", "tcp", ":8080")
	f("0.0.0.0:08080", "0.0.0.0:8080", "tcp", "0.0.0.0:8080")
	f("[::]:8080", "[::]:8080", "tcp", "[::]:8080")
	f("[fe80::1%eth0]:8080", "[fe80::1%eth0]:8080", "tcp", "[fe80::1%eth0]:8080")
}

// TestMisspellingsAreUnderstood holds when a name is suggested.
func TestMisspellingsAreUnderstood(t *testing.T) {
	t.Parallel()
	known := []string{"alias", "first_byte", "log", "timeouts", "url", "urls"}
	f := func(word, want string) {
		t.Helper()
		if got := nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	f("timeout", "timeouts")
	f("Timeouts", "timeouts")
	f("tiemouts", "timeouts")
	f("first-byte", "first_byte")
	f("firstByte", "first_byte")
	f("URL", "url")
	f("log_", "log")
	f("x", "")
	f("", "")
	f("something", "")
	f(strings.Repeat("timeouts", 100_000), "")
}

// TestRatesParse holds what a rate means.
func TestRatesParse(t *testing.T) {
	t.Parallel()
	f := func(text string, want Rate) {
		t.Helper()
		got, problem := parseRate(text)
		if got != want || problem != "" {
			t.Errorf("%q: got %+v and %q, want %+v", text, got, problem, want)
		}
	}
	f("60/m", Rate{60, time.Minute, 60})
	f("10/s", Rate{10, time.Second, 10})
	f("1000/h", Rate{1000, time.Hour, 1000})
	f("5000/d", Rate{5000, 24 * time.Hour, 5000})
	f("1/s", Rate{1, time.Second, 1})
	f("1000000000000/d", Rate{1e12, 24 * time.Hour, 1e12})
	f("60/m burst 10", Rate{60, time.Minute, 10})
	f("60/m burst 60", Rate{60, time.Minute, 60})
	f(" 060/m\tburst  1 ", Rate{60, time.Minute, 1})
	for _, text := range []string{"", "60", "60/", "/m", "60/M", "60/min", "60 /m", "+60/m", "-60/m", "0/m", "6_0/m", "6.0/m", "0x10/m", "１/m",
		"1000000000001/d", "9223372036854775808/s", "60/m burst", "60/m 10", "60/m burst 0", "60/m burst 61", "60/m Burst 10", "60/m burst 10 20", "60/m burst ten"} {
		if got, problem := parseRate(text); problem == "" || got != (Rate{}) {
			t.Errorf("%q: got %+v and %q, want a problem and no limit", text, got, problem)
		}
	}
}

// TestLocalListenersAreTold holds which listeners only this host reaches; what is not understood is reachable.
func TestLocalListenersAreTold(t *testing.T) {
	t.Parallel()
	f := func(listen string, want bool) {
		t.Helper()
		if got := (Server{Listen: listen}).Local(); got != want {
			t.Errorf("%q: got %v, want %v", listen, got, want)
		}
	}
	f("127.0.0.1:80", true)
	f("127.255.255.255:0", true)
	f("[::1]:80", true)
	f("[::ffff:127.0.0.1]:80", true)
	f("unix:/run/d.sock", true)
	f("0.0.0.0:80", false)
	f("[::]:80", false)
	f(":80", false)
	f("10.0.0.1:80", false)
	f("[::ffff:10.0.0.1]:80", false)
	f("localhost:80", false) // parseListen has made an address of it
	f("", false)
	f("x", false)
}
