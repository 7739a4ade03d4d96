package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// report sums a good configuration up: what it serves, where, and what of it is open.
func report(out io.Writer, path string, c *config.Config) {
	fmt.Fprintf(out, "%s: %d agents, listening on %s\n", path, len(c.Agents), c.Server.Listen)
	for i := range c.Agents {
		reportAgent(out, path, &c.Agents[i])
	}
	if !c.Open() {
		return
	}
	who := "everybody who reaches it"
	if c.Server.Local() {
		who = "every process of this host"
	}
	if network, _ := c.Server.Network(); network == "unix" {
		who = "everybody whom the mode of the socket admits"
	}
	fmt.Fprintf(out, "%s: open: auth.mode is none, so %s may call every agent\n", path, who)
}

// reportAgent says what becomes of a request to an agent besides being sent to its url: who
// shares it, and who may be asked when that fails. The urls themselves are not shown, because
// they may hold what came from the environment.
func reportAgent(out io.Writer, path string, a *config.Agent) {
	var says []string
	if n := len(a.URLs); n > 1 {
		says = append(says, strconv.Itoa(n)+" urls")
	}
	if a.Health.Interval > 0 {
		says = append(says, "checked every "+a.Health.Interval.String())
	}
	if len(a.Fallback) > 0 {
		says = append(says, "falls back to "+strings.Join(a.Fallback, ", then "))
	}
	if a.Retry.Idempotent {
		says = append(says, "may be asked the same twice (retry.idempotent)")
	}
	if a.Heartbeat.JSON > 0 {
		says = append(says, "JSON answers that take "+a.Heartbeat.JSON.String()+" are status 200, whatever becomes of them (heartbeat.json)")
	}
	if len(says) > 0 {
		fmt.Fprintf(out, "%s: agent %s: %s\n", path, a.Name, strings.Join(says, "; "))
	}
}
