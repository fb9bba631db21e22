package station

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
)

// logDir holds the newest checkpoint of the registry's public log, and evidence
// against it: see checkpoint.Keeper.
const logDir = "log"

const saysSplit = "the registry's public log has shown two faces"

// followLog holds the log's newest checkpoint against the one before. Two faces
// are an alarm, and a log that does not prove itself is reported; neither keeps
// records from being sent: who took them on is proved by receipts, and those are
// held against the log one by one. The error is only about the line.
func (s *Station) followLog(ctx context.Context) error {
	err := s.client.FollowLog(ctx)
	for _, amiss := range []struct {
		is   error
		says string
	}{
		{checkpoint.ErrSplit, saysSplit},
		{checkpoint.ErrBehind, "the registry's public log shows an older tree than before"},
		{checkpoint.ErrWitnesses, "the registry's public log is not cosigned as the policy asks for"},
		{checkpoint.ErrKept, "what is known of the registry's public log is damaged"},
		{checkpoint.ErrTiles, "the registry's public log does not prove itself"},
		{checkpoint.ErrForm, "the registry's public log does not prove itself"},
		{checkpoint.ErrSignature, "the registry's public log does not prove itself"},
	} {
		if errors.Is(err, amiss.is) {
			s.log.Error(amiss.says, "cause", err)
			return nil
		}
	}
	return err
}

// logFault is kiosk.Config.LogFault.
func (s *Station) logFault() kiosk.Code {
	pairs, err := s.seen.Evidence()
	if err != nil || len(pairs) == 0 {
		return ""
	}
	return kiosk.CodeSplitView
}

// diagnoseLog says what is known of the registry's public log here.
func diagnoseLog(ctx context.Context, c Config) (string, error) {
	p, err := readPolicies(c)
	if err != nil {
		return "", err
	}
	signed, err := p.current()
	if err != nil {
		return "", err
	}
	pairs, err := filepath.Glob(c.in(filepath.Join(logDir, "evidence", "*-2.checkpoint")))
	if err != nil {
		return "", err
	}
	if len(pairs) > 0 {
		return "", fmt.Errorf("%w: %d times; the evidence is in %s", checkpoint.ErrSplit, len(pairs), filepath.Dir(pairs[0]))
	}
	of := signed.Policy().Log()
	kept, err := checkpoint.ReadKept(c.in(logDir), of)
	switch {
	case err != nil:
		return "", err
	case !kept.Valid():
		return "nothing has been seen of it yet", nil
	}
	return fmt.Sprintf("%d leaves were seen, without a contradiction; %d witnesses are asked for", kept.Size(), of.Quorum), ctx.Err()
}
