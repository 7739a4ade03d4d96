package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/demo"
	"github.com/dragoman-proxy/dragoman/internal/logging"
	"github.com/dragoman-proxy/dragoman/proxy"
)

// service is the program while it serves.
type service struct {
	source *source
	conf   *config.Config // the newest that was put in force
	level  zap.AtomicLevel
	log    *zap.Logger
	lines  *logging.Writer // of the log
	server *proxy.Server
}

// run serves until a signal ends it. SIGHUP and a change of the files have the
// configuration read again.
func (s *service) run() error {
	defer calm()()
	agents := demo.New(demo.HumanPace)
	defer agents.Close()
	var err error
	if s.server, err = proxy.New(s.conf, s.log, agents.Dial); err != nil {
		return err
	}
	s.server.About(build(), s.lines.Dropped)
	ln, err := s.server.Listen()
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // whoever read the log may leave
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ln) }()
	s.log.Info("listening", zap.Stringer("address", ln.Addr()), zap.String("admin", s.conf.Admin.Listen), zap.Int("agents", len(s.conf.Agents)),
		zap.String("auth", s.conf.Auth.Mode), zap.String("version", version()))
	look := time.NewTicker(filePoll)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case sig := <-signals:
			return s.drain(sig, signals)
		case <-s.source.hangups:
			s.reload()
		case <-look.C:
			if s.source.changed() {
				s.reload()
			}
		}
	}
}

// drain ends the program in order: behind SIGTERM, which is how a cluster stops a pod,
// it goes on accepting until load balancers have noticed that it is not ready. Nobody
// but a person sends SIGINT. A second signal of either sort ends it at once.
func (s *service) drain(sig os.Signal, signals <-chan os.Signal) error {
	t := s.conf.Server.Timeouts
	ctx, cancel := context.WithTimeout(context.Background(), t.Drain)
	defer cancel()
	s.server.Drain()
	s.log.Info("shutting down", zap.Stringer("signal", sig), zap.Duration("at_most", t.Drain))
	defer s.log.Info("stopped")
	go func() {
		<-signals
		s.log.Warn("second signal: leaving at once")
		_ = s.log.Sync()
		os.Exit(exitFailed) //nolint:forbidigo // the operator asked twice: what runs is cut without a word
	}()
	if sig == syscall.SIGTERM && t.DrainDelay > 0 {
		delay := time.NewTimer(min(t.DrainDelay, t.Drain-min(2*time.Second, t.Drain/4)))
		defer delay.Stop()
		<-delay.C
	}
	return s.server.Shutdown(ctx)
}

// reload reads the configuration again and puts it in force, if it is good.
func (s *service) reload() {
	conf, problems := s.source.load()
	words := make([]string, len(problems))
	for i, p := range problems {
		words[i] = p.String()
	}
	if conf == nil {
		s.server.ReloadFailed(words...)
		return
	}
	if s.server.Reload(conf) != nil {
		return // it has said why
	}
	if len(words) > 0 {
		s.log.Warn("the configuration has warnings", zap.Strings("problems", words))
	}
	s.conf = conf
	if l, err := zapcore.ParseLevel(conf.Log.Level); err == nil { // the configuration has checked it
		s.level.SetLevel(l)
	}
}
