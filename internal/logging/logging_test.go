package logging

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestFormats(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log, err := New("info", "json", &b)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("not this")
	log.Info("request", zap.Duration("total", 1500*time.Millisecond))
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%v: %q", err, &b)
	}
	if line["message"] != "request" || line["total"] != 1.5 || line["level"] != "info" {
		t.Errorf("got %v", line)
	}
	if _, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil {
		t.Error(err)
	}

	b.Reset()
	if log, err = New("warn", "console", &b); err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("request", zap.Duration("total", 1500*time.Millisecond))
	if got := b.String(); !strings.Contains(got, "WARN\trequest\t{\"total\": \"1.5s\"}") || strings.Contains(got, "not this") {
		t.Errorf("got %q", got)
	}
	if _, err := New("loud", "json", &b); err == nil {
		t.Error("an unknown level was taken")
	}
}
