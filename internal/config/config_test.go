package config

import (
	"crypto/sha256"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse reads a configuration that must be good.
func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := Parse("config.yaml", []byte(text), testOptions(t))
	if c == nil {
		t.Fatalf("refused: %v", problems)
	}
	return c
}

const minimal = "auth: {mode: none}\nagents:\n  - name: support\n    protocol: cycls\n    url: http://127.0.0.1:8000\n"

// TestDefaultsAreTheDocumentedOnes reads the least that works and looks at every value that is not written.
func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	c := parse(t, minimal)
	a := c.Agents[0]
	for _, tc := range []struct {
		path      string
		got, want any
	}{
		{"server.listen", c.Server.Listen, "127.0.0.1:8080"},
		{"server.socket_mode", c.Server.SocketMode, fs.FileMode(0o660)},
		{"server.max_body", c.Server.MaxBody, Size(20 << 20)},
		{"server.max_header", c.Server.MaxHeader, Size(32 << 10)},
		{"server.max_connections", c.Server.MaxConnections, 10000},
		{"server.timeouts.header", c.Server.Timeouts.Header, 5 * time.Second},
		{"server.timeouts.body", c.Server.Timeouts.Body, 30 * time.Second},
		{"server.timeouts.idle", c.Server.Timeouts.Idle, 3 * time.Minute},
		{"server.timeouts.write", c.Server.Timeouts.Write, 30 * time.Second},
		{"server.timeouts.drain", c.Server.Timeouts.Drain, 25 * time.Second},
		{"admin.listen", c.Admin.Listen, "127.0.0.1:8081"},
		{"log.level", c.Log.Level, "info"},
		{"log.format", c.Log.Format, "json"},
		{"log.access", c.Log.Access, true},
		{"default_agent", c.DefaultAgent, "support"}, // the only one
		{"translate.strict", c.Translate.Strict, false},
		{"agents[0].aliases", a.Aliases, []string{"*"}}, // of a single agent
		{"agents[0].description", a.Description, ""},
		{"agents[0].path", a.Path, []string(nil)},
		{"agents[0].model", a.Model, ""},
		{"agents[0].credential", a.Credential.IsZero(), true},
		{"agents[0].headers", a.Headers, []Header(nil)},
		{"agents[0].forward_headers", a.ForwardHeaders, []string(nil)},
		{"agents[0].tls", a.TLS, TLS{}},
		{"agents[0].timeouts.connect", a.Timeouts.Connect, 5 * time.Second},
		{"agents[0].timeouts.first_byte", a.Timeouts.FirstByte, 10 * time.Minute},
		{"agents[0].timeouts.idle", a.Timeouts.Idle, 5 * time.Minute},
		{"agents[0].timeouts.total", a.Timeouts.Total, time.Hour},
		{"agents[0].keep_alive", a.KeepAlive, 4 * time.Second},
		{"agents[0].heartbeat.stream", a.Heartbeat.Stream, 15 * time.Second},
		{"agents[0].heartbeat.before_first_byte", a.Heartbeat.BeforeFirstByte, time.Duration(0)},
		{"agents[0].heartbeat.json", a.Heartbeat.JSON, time.Duration(0)},
		{"agents[0].balance", a.Balance, Balance{Failures: 5, ErrorRate: 0.5, Pause: 10 * time.Second, SlowStart: 10 * time.Second}},
		{"agents[0].health", a.Health, Health{Timeout: 2 * time.Second}},
		{"agents[0].retry", a.Retry, Retry{Attempts: 1, Budget: 0.2}},
		{"agents[0].fallback", a.Fallback, []string(nil)},
		{"agents[0].read_ahead", a.ReadAhead, MiB},
		{"server.timeouts.drain", c.Server.Timeouts.Drain, 25 * time.Second},
		{"server.timeouts.drain_delay", c.Server.Timeouts.DrainDelay, 5 * time.Second},
		{"admin.pprof", c.Admin.PProf, false},
		{"agents[0].allow_link_local", a.AllowLinkLocal, false},
		{"agents[0].strict", a.Strict, false},
		{"agents[0].defaults", a.Defaults, Defaults{}},
		{"agents[0].options", a.Options, map[string]string(nil)},
		{"agents[0].limits", a.Limits, Limits{}},
		{"server.tls", c.Server.TLS, ServerTLS{}},
		{"server.trusted_proxies", c.Server.TrustedProxies, []netip.Prefix(nil)},
		{"auth.mode", Default().Auth.Mode, "keys"},
		{"auth.allow_unauthenticated", c.Auth.AllowUnauthenticated, false},
		{"auth.keys", c.Auth.Keys, []Key(nil)},
		{"auth.keys_file", c.Auth.KeysFile, ""},
		{"auth.jwt", c.Auth.JWT, (*JWT)(nil)},
		{"auth.jwt.algorithms", DefaultJWT().Algorithms, []string{"RS256", "ES256"}},
		{"auth.jwt.principal_claim", DefaultJWT().PrincipalClaim, "sub"},
		{"auth.jwt.agents_claim", DefaultJWT().AgentsClaim, ""},
		{"auth.jwt.leeway", DefaultJWT().Leeway, 30 * time.Second},
		{"limits.store", c.Limits.Store, "memory"},
		{"limits.on_error", c.Limits.OnError, "local"},
		{"limits.replicas", c.Limits.Replicas, 1},
		{"limits.default", c.Limits.Default, Limits{}},
		{"limits.global", c.Limits.Global, Limits{}},
		{"state", c.State, State{
			Store: "memory", TTL: 24 * time.Hour, MaxBytes: 256 * MiB, MaxBytesPerKey: 32 * MiB, MaxConversation: 16 * MiB, Timeout: 2 * time.Second,
			Background: Background{Timeout: time.Hour, Concurrent: 64, MaxEvents: 16 * MiB},
		}},
		{"limits.queue", c.Limits.Queue, Queue{Length: 64, Wait: 2 * time.Second}},
		{"redis.url", c.Redis.URL.IsZero(), true},
		{"redis.timeout", c.Redis.Timeout, 50 * time.Millisecond},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.path, tc.got, tc.want)
		}
	}
}

// TestEverySettingArrives reads a file in which nothing is at its default.
func TestEverySettingArrives(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/full.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(data))
	if client := c.Agents[0].TLS.Client("agent.internal"); client.ServerName != "other.internal" ||
		len(client.Certificates) != 1 || client.RootCAs == nil || client.InsecureSkipVerify {
		t.Errorf("tls: got %+v", client)
	}
	c.Agents[0].TLS.client = nil
	c.keys = nil
	zero := 0.0
	want := &Config{
		Server: Server{
			Listen: "unix:/run/dragoman.sock", SocketMode: 0o600, MaxBody: GiB, MaxHeader: 64000, MaxConnections: 7,
			Timeouts: ServerTimeouts{Header: time.Second, Body: 2 * time.Second, Idle: 3 * time.Second, Write: 4 * time.Second, Drain: 50 * time.Second, DrainDelay: 40 * time.Second},
			TLS:      ServerTLS{CertFile: "/cert.pem", KeyFile: "/key.pem", ClientCAFile: "/ca.pem"},
			TrustedProxies: []netip.Prefix{
				netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("10.1.0.0/16"),
				netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("10.0.0.6/32"),
			},
		},
		Admin: Admin{Listen: "unix:/run/dragoman-admin.sock", PProf: true},
		Log:   Log{Level: "debug", Format: "console"},
		Agents: []Agent{{
			Name: "support", Aliases: []string{"gpt-4o", "support-*", "deutsch für alle"},
			Description: "Answers questions about orders", Protocol: "cycls",
			URLs:     []Target{{Scheme: "https", Host: "agent.internal:443", BasePath: "/base"}, {Scheme: "https", Host: "[2001:db8::1]:8443"}},
			Balance:  Balance{MaxConcurrent: 3, ErrorRate: 0.25, Pause: time.Minute},
			Health:   Health{Interval: 5 * time.Second, Timeout: time.Second, Path: "/health", Ready: true},
			Retry:    Retry{Idempotent: true, Attempts: 3, Budget: 0.5},
			Fallback: []string{"local"}, ReadAhead: 2 * MiB,
			Path: []string{"/chat/cycls", "/chat"}, Model: "gpt-4o",
			Credential:     Credential{Header: "Authorization", Value: NewSecret("Bearer " + testToken)},
			Headers:        []Header{{"X-Team", "support"}, {"X-Number", "7"}},
			ForwardHeaders: []string{"x-tenant"},
			TLS:            TLS{CAFile: "/ca.pem", CertFile: "/cert.pem", KeyFile: "/key.pem", ServerName: "other.internal"},
			Timeouts:       AgentTimeouts{Connect: time.Second, FirstByte: 2 * time.Minute, Idle: 3 * time.Minute, Total: 4 * time.Hour},
			Heartbeat:      Heartbeat{Stream: 90 * time.Second, BeforeFirstByte: 10 * time.Second, JSON: 20 * time.Second},
			AllowLinkLocal: true, Strict: true, Limits: Limits{Concurrent: 32},
			Defaults: Defaults{SystemPrompt: "Be brief.\nBe kind.", MaxTokens: 100, Temperature: &zero},
			Options:  map[string]string{"history": "id", "probe": "true", "limit": "3"},
		}, {
			Name: "local", Protocol: "chat", URLs: []Target{{Scheme: "unix", Path: "/run/agent.sock"}},
			Balance: DefaultAgent().Balance, Health: DefaultAgent().Health, Retry: DefaultAgent().Retry, ReadAhead: MiB,
			Path: []string{"/v1/chat/completions"}, Model: "m",
			Credential: Credential{Header: "api-key", Value: NewSecret(testToken)},
			Timeouts:   DefaultAgent().Timeouts, KeepAlive: 4 * time.Second, Heartbeat: Heartbeat{Stream: 15 * time.Second}, MaxInputTokens: 1000,
		}},
		DefaultAgent: "support",
		Translate:    Translate{Strict: true},
		Auth: Auth{
			Mode: "keys",
			Keys: []Key{{
				Name: "support-frontend", Hash: [32]byte{31: 0xab}, Agents: []string{"support", "loc*"},
				Expires: time.Date(2998, 12, 31, 22, 0, 0, 0, time.UTC),
				Limits: &Limits{
					Requests:   Rate{Events: 60, Per: time.Minute, Burst: 10},
					Tokens:     Rate{Events: 100000, Per: 24 * time.Hour, Burst: 100000},
					Concurrent: 8,
				},
			}, {
				Name: "b", Hash: sha256.Sum256([]byte(testToken + "-of-a-caller")), Expires: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
			}, {
				Name: "c", Hash: sha256.Sum256([]byte(testToken + "-in-a-file")), Disabled: true,
			}},
			KeysFile: "/keys.yaml",
			JWT: &JWT{
				Issuer: "https://login.example.com/", Audience: []string{"dragoman", "api://dragoman"}, JWKSURL: "https://login.example.com/keys?p=1",
				Algorithms: []string{"EdDSA", "PS256"}, PrincipalClaim: "email", AgentsClaim: "agents",
			},
		},
		Limits: RateLimits{
			Store: "redis", OnError: "closed", Replicas: 3,
			Default: Limits{Requests: Rate{Events: 10, Per: time.Second, Burst: 10}},
			Global:  Limits{Tokens: Rate{Events: 1e12, Per: time.Hour, Burst: 1}, Concurrent: 1},
			Queue:   Queue{Wait: time.Minute},
		},
		Redis: Redis{URL: NewSecret("redis://:" + testToken + "@127.0.0.1:6379/1"), Timeout: time.Second},
		State: State{
			Store: "file", Path: "/state.db", TTL: 48 * time.Hour, MaxBytes: 512 * MiB, MaxBytesPerKey: 100 * MiB, MaxConversation: 50 * MiB, Timeout: 3 * time.Second,
			EncryptionKeys: []Secret{NewSecret("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")},
			Background:     Background{Timeout: 2 * time.Hour, Concurrent: 5, MaxEvents: MiB},
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

// TestASingleAgentServesEveryWord holds the sidecar's rule, and its limits.
func TestASingleAgentServesEveryWord(t *testing.T) {
	t.Parallel()
	f := func(text string, wantAliases []string, wantDefault string) {
		t.Helper()
		c := parse(t, text)
		if got := c.Agents[0].Aliases; !reflect.DeepEqual(got, wantAliases) {
			t.Errorf("aliases: got %q, want %q", got, wantAliases)
		}
		if c.DefaultAgent != wantDefault {
			t.Errorf("default: got %q, want %q", c.DefaultAgent, wantDefault)
		}
		if a := c.Default(); (a == nil) != (wantDefault == "") || a != nil && a.Name != wantDefault {
			t.Errorf("default agent: got %v", a)
		}
	}
	f(minimal, []string{"*"}, "support")
	// aliases that are written are all there are, even if there are none
	f(minimal+"    aliases: []\n", nil, "support")
	f(minimal+"    aliases: [gpt-4o]\n", []string{"gpt-4o"}, "support")
	// two agents: neither is the default, and neither serves every word
	f(minimal+"  - {name: two, protocol: cycls, url: \"http://127.0.0.1\"}\n", nil, "")
	f(minimal+"  - {name: two, protocol: cycls, url: \"http://127.0.0.1\"}\ndefault_agent: two\n", nil, "two")
}

// TestLookupPrefersTheMoreExactWord holds the order of names, aliases and patterns.
func TestLookupPrefersTheMoreExactWord(t *testing.T) {
	t.Parallel()
	c := &Config{Agents: []Agent{
		{Name: "all", Aliases: []string{"*"}},
		{Name: "gpt", Aliases: []string{"gpt-*", "o3"}},
		{Name: "mini", Aliases: []string{"gpt-*-mini"}},
		{Name: "gpt-5-mini"},
		{Name: "again", Aliases: []string{"gpt-*-nano", "exact"}},
	}}
	f := func(word, want string) {
		t.Helper()
		got := ""
		if a := c.Lookup(word); a != nil {
			got = a.Name
		}
		if got != want {
			t.Errorf("%.40q: got %q, want %q", word, got, want)
		}
	}
	f("gpt", "gpt")
	f("gpt-5", "gpt")
	f("o3", "gpt")
	f("gpt-4-mini", "mini")
	f("gpt-5-mini", "gpt-5-mini")
	f("gpt-4-nano", "again")
	f("exact", "again")
	f("Exact", "all") // case matters
	f("", "all")
	f(strings.Repeat("x", 1024), "all")
	f(strings.Repeat("x", 1025), "")
	if a := (&Config{}).Lookup("x"); a != nil {
		t.Errorf("got %v of no agents", a)
	}
	if a := (&Config{Agents: []Agent{{}}}).Default(); a != nil {
		t.Errorf("got %v where no default is named", a)
	}
}

// TestEveryFieldIsDocumented holds the promise that the structs are the reference manual.
func TestEveryFieldIsDocumented(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					if name.IsExported() && field.Doc == nil && field.Comment == nil {
						t.Errorf("%s: %s.%s has no comment", path, spec.Name, name)
					}
				}
			}
			return true
		})
	}
}

// TestLookupWhere shows that an agent which does not exist for somebody leaves its words to the others, as one that was
// never written.
func TestLookupWhere(t *testing.T) {
	t.Parallel()
	c := Config{Agents: []Agent{{Name: "secret", Aliases: []string{"gpt-4o", "gpt-4*"}}, {Name: "open", Aliases: []string{"*"}}}}
	notSecret := func(a *Agent) bool { return a.Name != "secret" }
	for _, word := range []string{"secret", "gpt-4o", "gpt-4.1", "whatever"} {
		if a := c.LookupWhere(word, notSecret); a == nil || a.Name != "open" {
			t.Errorf("%s: %v, want open", word, a)
		}
		if a := c.Lookup(word); a == nil || (a.Name == "secret") != (word != "whatever") {
			t.Errorf("%s: %v", word, a)
		}
	}
	if a := c.LookupWhere("open", func(*Agent) bool { return false }); a != nil {
		t.Errorf("nobody: %v", a)
	}
}
