package main

import (
	"fmt"
	"io"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// report sums a good configuration up: what it serves, where, and what of it is open.
func report(out io.Writer, path string, c *config.Config) {
	fmt.Fprintf(out, "%s: %d agents, listening on %s\n", path, len(c.Agents), c.Server.Listen)
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
