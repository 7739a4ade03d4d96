package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzParse feeds anything. It must not panic, a refusal must have a reason with a line, a configuration must be usable,
// and what comes from the environment or from a file must not be quoted, wherever it is used.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("agents: [{name: \"${A}\", aliases: [\"${A}\", \"${A}*\"], protocol: \"${A}\", url: \"${A}\", path: \"${A}\", model: \"${A}\"}]\ndefault_agent: \"${A}\""))
	f.Add([]byte("auth: {keys: [{name: \"${A}\", hash: \"${A}\", expires: \"${A}\", agents: [\"${A}\"]}], keys_file: \"/${A}\"}\nlimits: {store: redis, default: {requests: \"${A}\"}}\nredis: {url: {value: \"redis://${A}\"}}"))
	f.Add([]byte("auth: {keys: [{name: a, key: {value: \"${A}${A}\"}}], jwt: {issuer: \"${A}\", audience: [\"${A}\"], jwks_url: \"https://${A}/\", algorithms: [\"${A}\"]}}\nagents: [{name: a, protocol: chat, url: \"demo:chat\"}]"))
	f.Add([]byte("agents: [{name: a, protocol: chat, url: \"https://${A}/${A}\", headers: {X: \"${A}\"}, options: {a: \"${A}\"}, tls: {ca_file: \"/${A}\"}}]"))
	f.Add([]byte("agents: [{name: a, protocol: chat, urls: [\"https://${A}/\", \"https://${A}.x/\"], fallback: [\"${A}\"], balance: {pause: \"${A}\", error_rate: \"${A}%\"}, health: {interval: 3s, path: \"/${A}\"}, retry: {budget: \"${A}\"}, read_ahead: \"${A}\"}, {name: \"${A}\", protocol: cycls, url: \"demo:cycls\"}]"))
	// It passes for an agent's name, so that it gets as far as a secret can.
	const canary = "c4naryT0ken"
	o := Options{
		Protocols:   testProtocols,
		Getenv:      func(string) (string, bool) { return canary, true },
		OptionCheck: func(_, _, value string) error { return fmt.Errorf("not %q", value) },
		ReadFile: func(path string) ([]byte, error) {
			if strings.HasSuffix(path, "missing") {
				return nil, errors.New("no " + path + canary)
			}
			if strings.HasSuffix(path, ".yaml") {
				return []byte("- {name: b, key: {value: " + canary + "-and-more}}\n- {name: \"" + canary + "\", agents: [" + canary + "], expires: " + canary + "}\n"), nil
			}
			return []byte(canary + "\n"), nil
		},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(strings.ToLower(string(data)), "c4nary") {
			return
		}
		c, problems := Parse("fuzz.yaml", data, o)
		if (c == nil) != HasErrors(problems) {
			t.Fatalf("a configuration and errors, or neither: %v", problems)
		}
		for i, p := range problems {
			if p.Line < 1 || p.Message == "" || i > 0 && p.File == problems[i-1].File && p.Line < problems[i-1].Line {
				t.Errorf("no line, no message, or out of order: %v", p)
			}
			if strings.Contains(p.String(), canary) {
				t.Errorf("quotes a secret: %v", p)
			}
			if strings.ContainsAny(p.String(), "\r\n\x00\x1b") {
				t.Errorf("prints a control character: %q", p.String())
			}
		}
		if c == nil {
			return
		}
		for i := range c.Agents {
			a := &c.Agents[i]
			if c.Lookup(a.Name) != a {
				t.Errorf("agent %q is not found by its name", a.Name)
			}
			if len(a.URLs) < 1 || len(a.URLs) > 64 {
				t.Errorf("agent %q has %d urls", a.Name, len(a.URLs))
			}
			for k, u := range a.URLs {
				if again, problem := parseTarget(u.String(), a.AllowLinkLocal, o.Protocols); problem != "" || again != u {
					t.Errorf("url %+v: parsed again it is %+v, %s", u, again, problem)
				}
				if slices.Contains(a.URLs[:k], u) {
					t.Errorf("url %+v twice", u)
				}
			}
			for k, name := range a.Fallback {
				if b := c.Lookup(name); b == nil || b == a || b.Name != name || slices.Contains(a.Fallback[:k], name) {
					t.Errorf("agent %q falls back to %q", a.Name, name)
				}
			}
			if s := a.Balance; s.MaxConcurrent < 0 || s.Failures < 0 || !(s.ErrorRate >= 0 && s.ErrorRate <= 1) || s.Pause <= 0 || s.SlowStart < 0 {
				t.Errorf("balance %+v", s)
			}
			if h := a.Health; h.Interval < 0 || h.Timeout <= 0 || h.Interval > 0 && h.Interval < h.Timeout || h.Path != "" && h.Path[0] != '/' {
				t.Errorf("health %+v", h)
			}
			if r := a.Retry; r.Attempts < 0 || r.Attempts > 10 || !(r.Budget >= 0 && r.Budget <= 1) {
				t.Errorf("retry %+v", r)
			}
			if h := a.Heartbeat; h.Stream < 0 || h.BeforeFirstByte < 0 || h.JSON < 0 || a.ReadAhead < 64*KiB || a.ReadAhead > GiB {
				t.Errorf("heartbeat %+v, read ahead %v", h, a.ReadAhead)
			}
			for _, h := range a.Headers {
				if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
					t.Errorf("header %+q splits", h)
				}
			}
			if strings.ContainsAny(a.Credential.Value.Reveal(), "\r\n\x00") {
				t.Error("the credential splits")
			}
		}
		if !c.Open() && len(c.Auth.Keys) == 0 && c.Auth.JWT == nil {
			t.Error("nobody could call")
		}
		if c.Open() && !c.Server.Local() && !c.Auth.AllowUnauthenticated {
			t.Error("everybody can call")
		}
		for _, k := range c.Auth.Keys {
			if k.Name == "" || k.Hash == [32]byte{} || k.Agents != nil && len(k.Agents) == 0 || k.Limits != nil && k.Limits.IsZero() {
				t.Errorf("key %+v", k)
			}
		}
		if again, problems := c.ReadKeys(); HasErrors(problems) || len(again) != len(c.Auth.Keys) {
			t.Errorf("read again: %v, %v", again, problems)
		}
		if j := c.Auth.JWT; j != nil && (j.Issuer == "" || len(j.Audience) == 0 || len(j.Algorithms) == 0 || (j.JWKSURL == "") == (j.JWKSFile == "")) {
			t.Errorf("jwt %+v", j)
		}
		for _, l := range []Limits{c.Limits.Default, c.Limits.Global, c.Agents[0].Limits} {
			for _, r := range []Rate{l.Requests, l.Tokens} {
				if r != (Rate{}) && (r.Per <= 0 || r.Burst < 1 || r.Burst > r.Events || r.Events > maxEvents) || l.Concurrent < 0 {
					t.Errorf("limits %+v", l)
				}
			}
		}
		if _, problem := parseListen(c.Server.Listen); problem != "" {
			t.Errorf("listener %q: %s", c.Server.Listen, problem)
		}
	})
}
