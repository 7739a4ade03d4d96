package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	rounds       int
	warm         time.Duration // before the first round, for each series
	lead, window time.Duration // of a turn in the closed loop; lead is not measured
	pacedLead    time.Duration
	pacedWindow  time.Duration
	connections  int // in the closed loop
	rate         int // streams a second at the fixed rate
}

var (
	fullPlan  = plan{rounds: 5, warm: time.Second, lead: 200 * time.Millisecond, window: 2 * time.Second, pacedLead: time.Second, pacedWindow: 5 * time.Second, connections: 16, rate: 200}
	quickPlan = plan{rounds: 3, warm: 300 * time.Millisecond, lead: 100 * time.Millisecond, window: 700 * time.Millisecond, pacedLead: 600 * time.Millisecond, pacedWindow: 2 * time.Second, connections: 16, rate: 200}
)

func main() {
	// Children are told to die with the thread that started them.
	runtime.LockOSThread()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "backend":
			exit(runBackend())
		case "bare":
			exit(runBare(os.Args[2]))
		case "crowd":
			exit(runCrowd(os.Args[2]))
		case "capacity":
			exit(runCapacity(os.Args[2:]))
		case "soak":
			exit(runSoak(os.Args[2:]))
		}
	}
	quick := flag.Bool("quick", false, "a shorter run with coarser figures")
	group := flag.String("group", "", "only this `group` of routes: json, burst or spaced")
	series := flag.String("series", "", "only the series whose name holds this `text`, and bare fasthttp")
	var binaries []string
	flag.Func("dragoman", "measure this `binary` instead of building one; given again, measure those too, beside it", func(path string) error {
		path, err := filepath.Abs(path)
		binaries = append(binaries, path)
		return err
	})
	rounds := flag.Int("rounds", 0, "number of rounds")
	flag.Parse()
	p := fullPlan
	if *quick {
		p = quickPlan
	}
	if *rounds > 0 {
		p.rounds = *rounds
	}
	exit(run(&p, *group, *series, binaries))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run starts everybody, measures, prints, and stops everybody.
func run(p *plan, group, only string, binaries []string) error {
	return withHouse(func(h *house) error { return h.contest(p, group, only, binaries) })
}

// withHouse runs f with a place for children, who do not outlive it.
func withHouse(f func(*house) error) error {
	dir, err := os.MkdirTemp("", "dragoman-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := &house{dir: dir}
	defer h.close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		h.close()
		os.RemoveAll(dir)
		os.Exit(1)
	}()
	return f(h)
}

func (h *house) contest(p *plan, group, only string, binaries []string) error {
	if len(binaries) == 0 {
		fmt.Fprintln(os.Stderr, "building dragoman")
		binaries = []string{h.file("dragoman")}
		if err := buildDragoman(binaries[0]); err != nil {
			return err
		}
	}
	groups, err := h.open(binaries)
	if err != nil {
		return err
	}
	var failed bool
	for _, g := range groups {
		if group != "" && g.name != group {
			continue
		}
		g.keep(only)
		if !measure(p, g) {
			failed = true
		}
		g.print(os.Stdout)
	}
	printTargets(os.Stdout, groups)
	if failed {
		return errors.New("not every series could be measured")
	}
	return nil
}
