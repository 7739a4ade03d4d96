package main

import (
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// TestCheckSaysWhoElseIsAsked: what several urls, fallbacks and retries amount to can be seen
// before they are in force, and an agent without any of them is not spoken of.
func TestCheckSaysWhoElseIsAsked(t *testing.T) {
	t.Parallel()
	plain := config.DefaultAgent()
	plain.Name, plain.URLs = "plain", []config.Target{{Scheme: "unix", Path: "/run/a.sock"}}
	much := plain
	much.Name = "much"
	much.URLs = append(much.URLs, config.Target{Scheme: "http", Host: "secret.internal:80"})
	much.Fallback = []string{"plain", "third"}
	much.Health.Interval, much.Heartbeat.JSON, much.Retry.Idempotent = 5*time.Second, time.Minute, true
	third := plain
	third.Name, third.Fallback = "third", []string{"plain"}
	c := config.Default()
	c.Agents = []config.Agent{plain, much, third}
	var out strings.Builder
	report(&out, "c.yaml", &c)
	const want = "c.yaml: 3 agents, listening on 127.0.0.1:8080\n" +
		"c.yaml: agent much: 2 urls; checked every 5s; falls back to plain, then third; may be asked the same twice (retry.idempotent); " +
		"JSON answers that take 1m0s are status 200, whatever becomes of them (heartbeat.json)\n" +
		"c.yaml: agent third: falls back to plain\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
