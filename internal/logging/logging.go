// Package logging makes the program's logger: JSON lines for machines, or a
// console format for people.
package logging

import (
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New makes a logger that writes to w. level is debug, info, warn or error;
// format is json or console.
func New(level, format string, w io.Writer) (*zap.Logger, error) {
	l, err := Level(level)
	if err != nil {
		return nil, err
	}
	return At(l, format, w), nil
}

// Level reads a level for [At]: debug, info, warn or error. It can be changed while loggers
// are in use.
func Level(level string) (zap.AtomicLevel, error) {
	l, err := zap.ParseAtomicLevel(level)
	if err != nil {
		return l, fmt.Errorf("log level: %w", err)
	}
	return l, nil
}

// At is [New] with a level that can be changed later.
func At(level zap.AtomicLevel, format string, w io.Writer) *zap.Logger {
	return zap.New(zapcore.NewCore(encoder(format), zapcore.Lock(zapcore.AddSync(w)), level))
}

func encoder(format string) zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.MessageKey = "time", "message"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.SecondsDurationEncoder
	if format == "console" {
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		c.EncodeDuration = zapcore.StringDurationEncoder
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		return zapcore.NewConsoleEncoder(c)
	}
	return zapcore.NewJSONEncoder(c)
}
