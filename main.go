// Dragoman is a reverse proxy that lets clients and agents of different HTTP
// protocols understand each other. See README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/logging"
	"github.com/dragoman-proxy/dragoman/translate"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	fail := func(format string, a ...any) int {
		fmt.Fprintf(stderr, "dragoman: "+format+"\n\n%s%s.\n", append(a, usage, strings.Join(translate.Names(), ", "))...)
		return exitUsage
	}
	flags := flag.NewFlagSet("dragoman "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var path, listen, auth, name, address string
	var hash bool
	var agents []string
	switch command {
	case "key":
		flags.StringVar(&name, "name", "caller", "")
		flags.BoolVar(&hash, "hash", false, "")
	case "serve":
		flags.StringVar(&listen, "listen", "", "")
		flags.StringVar(&auth, "auth", "", "")
		flags.Func("agent", "", func(s string) error { agents = append(agents, s); return nil })
		flags.StringVar(&path, "config", "config.yaml", "")
	case "health":
		flags.StringVar(&address, "address", "", "")
		fallthrough
	default:
		flags.StringVar(&path, "config", "config.yaml", "")
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp) || command == "help":
		fmt.Fprintf(stdout, "%s%s.\n", usage, strings.Join(translate.Names(), ", "))
		return 0
	case err != nil:
		return fail("%v", err)
	case flags.NArg() > 0 && command == "key":
		return fail("a key is read from standard input, with -hash: the command line is for everybody to see")
	case flags.NArg() > 0:
		return fail("unexpected %q", flags.Arg(0))
	}
	ended := func(err error) int {
		if err != nil {
			fmt.Fprintln(stderr, "dragoman:", err)
			return exitFailed
		}
		return 0
	}
	switch command {
	case "version":
		fmt.Fprintln(stdout, version())
		return 0
	case "key":
		return ended(keyCommand(name, hash, stdin, stdout, stderr))
	case "serve", "check", "health":
	default:
		return fail("unknown command %q", command)
	}

	options := config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption, DefaultCheck: translate.CheckDefault}
	source := newSource(options)
	written := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { written[f.Name] = true })
	switch {
	case len(agents) > 0 && written["config"]:
		return fail("-agent and -config exclude each other")
	case written["auth"] && len(agents) == 0:
		return fail("-auth goes with -agent: a file has auth.mode")
	case len(agents) > 0:
		source.parse = func(o config.Options) (*config.Config, []config.Problem) {
			return config.Sidecar(agents, listen, auth, o)
		}
	default:
		source.options.Listen = listen
		source.parse = func(o config.Options) (*config.Config, []config.Problem) { return config.Load(path, o) }
	}
	if command == "serve" {
		defer source.catchHangups()() // from before the first look at the file
	}
	conf, problems := source.load()
	if command == "health" {
		// The running proxy keeps its last good configuration, and is not to be called sick for a
		// file that is not good: what can be read of it still tells where to ask.
		if conf == nil && len(agents) == 0 {
			conf = config.Remains(path, options)
		}
		return ended(healthCommand(address, conf, stdout))
	}
	for _, p := range problems {
		fmt.Fprintln(stderr, p)
	}
	if conf == nil {
		return exitFailed
	}
	if command == "check" {
		report(stdout, path, conf)
		return 0
	}
	level, err := logging.Level(conf.Log.Level)
	if err == nil {
		log, lines := logging.Async(level, conf.Log.Format, stderr)
		err = (&service{source: source, conf: conf, level: level, log: log, lines: lines}).run()
		_ = lines.Close()
	}
	return ended(err)
}
