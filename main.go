// Dragoman is a reverse proxy that lets clients and agents of different HTTP
// protocols understand each other. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/demo"
	"github.com/dragoman-proxy/dragoman/internal/logging"
	"github.com/dragoman-proxy/dragoman/proxy"
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
	var path, listen, auth, name string
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
	case "serve", "check":
	default:
		return fail("unknown command %q", command)
	}

	options := config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption, DefaultCheck: translate.CheckDefault}
	var conf *config.Config
	var problems []config.Problem
	written := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { written[f.Name] = true })
	switch {
	case len(agents) > 0 && written["config"]:
		return fail("-agent and -config exclude each other")
	case written["auth"] && len(agents) == 0:
		return fail("-auth goes with -agent: a file has auth.mode")
	case len(agents) > 0:
		conf, problems = config.Sidecar(agents, listen, auth, options)
	default:
		options.Listen = listen
		conf, problems = config.Load(path, options)
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
	log, err := logging.New(conf.Log.Level, conf.Log.Format, stderr)
	if err == nil {
		err = serve(conf, log)
	}
	return ended(err)
}

// serve runs the proxy until a signal ends it; a second one ends it at once.
func serve(conf *config.Config, log *zap.Logger) error {
	defer runtime.KeepAlive(calm())
	agents := demo.New(demo.HumanPace)
	defer agents.Close()
	server, err := proxy.New(conf, log, agents.Dial)
	if err != nil {
		return err
	}
	ln, err := server.Listen()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	log.Info("listening", zap.Stringer("address", ln.Addr()), zap.String("admin", conf.Admin.Listen), zap.Int("agents", len(conf.Agents)), zap.String("auth", conf.Auth.Mode), zap.String("version", version()))
	select {
	case err := <-done:
		return err
	case sig := <-signals:
		log.Info("shutting down", zap.Stringer("signal", sig), zap.Duration("at_most", conf.Server.Timeouts.Drain))
	}
	ctx, cancel := context.WithTimeout(context.Background(), conf.Server.Timeouts.Drain)
	defer cancel()
	go func() {
		<-signals
		log.Warn("second signal: leaving at once")
		os.Exit(exitFailed) // the operator asked twice
	}()
	defer log.Info("stopped")
	return server.Shutdown(ctx)
}
