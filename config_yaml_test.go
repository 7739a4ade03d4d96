package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// TestShippedConfigurationHoldsEverySetting: the agent that config.yaml shows in a comment has
// every setting that there is, and each of them at its default.
func TestShippedConfigurationHoldsEverySetting(t *testing.T) {
	t.Parallel()
	o := config.Options{Protocols: translate.Names(), Getenv: func(string) (string, bool) { return "a-token", true }}
	text, err := os.ReadFile("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(text), "  # - name: support ")
	block, _, end := strings.Cut(block, "\n\n")
	if !ok || !end {
		t.Fatal("there is no such agent")
	}
	block = "  - name: support " + strings.ReplaceAll(block, "\n  # ", "\n  ")
	const urls = "    urls: []"
	agent := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(urls)+`.*\n`).ReplaceAllString(block, "") // one or the other
	if agent == block {
		t.Errorf("urls is missing")
	}
	const open = "auth: {mode: none}\nagents:\n"
	c, problems := config.Parse("", []byte(open+agent), o)
	if c == nil || len(problems) > 0 {
		t.Fatalf("%v in\n%s", problems, agent)
	}
	got, want := c.Agents[0], config.DefaultAgent()
	// What an agent as one would write it says of itself.
	want.Name, want.Aliases, want.Description, want.Protocol = got.Name, got.Aliases, got.Description, got.Protocol
	want.URLs, want.Credential, want.Headers = got.URLs, got.Credential, got.Headers
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want the defaults\n%+v", got, want)
	}

	for section, where := range map[string]string{
		"":           "agents: [{zzzzzzzzzzzz: 1}]",
		"tls":        "agents: [{tls: {zzzzzzzzzzzz: 1}}]",
		"timeouts":   "agents: [{timeouts: {zzzzzzzzzzzz: 1}}]",
		"heartbeat":  "agents: [{heartbeat: {zzzzzzzzzzzz: 1}}]",
		"balance":    "agents: [{balance: {zzzzzzzzzzzz: 1}}]",
		"health":     "agents: [{health: {zzzzzzzzzzzz: 1}}]",
		"retry":      "agents: [{retry: {zzzzzzzzzzzz: 1}}]",
		"defaults":   "agents: [{defaults: {zzzzzzzzzzzz: 1}}]",
		"server":     "server: {zzzzzzzzzzzz: 1}",
		"server.t":   "server: {timeouts: {zzzzzzzzzzzz: 1}}",
		"server.tls": "server: {tls: {zzzzzzzzzzzz: 1}}",
		"admin":      "admin: {zzzzzzzzzzzz: 1}",
		"limits":     "limits: {zzzzzzzzzzzz: 1}",
		"log":        "log: {zzzzzzzzzzzz: 1}",
	} {
		keys := known(t, where, o)
		in := string(text)
		if strings.HasPrefix(where, "agents") {
			in = block
		}
		if section != "" {
			name := section
			if section == "server.t" {
				name = "timeouts"
			}
			_, in, _ = strings.Cut(in, strings.TrimPrefix(name, "server.")+":")
			if strings.HasPrefix(where, "agents") {
				in, _, _ = strings.Cut(in, "\n")
			}
		}
		for _, key := range keys {
			if !strings.Contains(in, key+":") {
				t.Errorf("%s: config.yaml lacks %s", where, key)
			}
		}
	}
}

// known are the settings of the section in which text has one that does not exist.
func known(t *testing.T, text string, o config.Options) []string {
	t.Helper()
	_, problems := config.Parse("", []byte(text), o)
	for _, p := range problems {
		if _, keys, ok := strings.Cut(p.Message, "known here: "); ok {
			return strings.Split(keys, ", ")
		}
	}
	t.Fatalf("%s: %v", text, problems)
	return nil
}
