// Package speech reads sentences aloud through a speech program of the system.
// The sentences go to it by standard input or as one argument after "--", never
// through a shell. Nothing waits for the program: one that hangs is killed when
// the next sentence comes, when the page goes, or after a minute.
//
// What may be said is the caller's business: any user of the machine can see the
// arguments of a program.
package speech

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ErrProgram means that a speech program that was asked for by name is not there.
var ErrProgram = errors.New("no such speech program")

// longest is how long one sentence may take.
const longest = time.Minute

// Off as the name of a program means that nothing is read aloud.
const Off = "off"

// Speaker says one thing at a time.
type Speaker struct {
	path string
	do   func(path, language, text string) *exec.Cmd
	quit func(path string) *exec.Cmd // ends what goes on after the program; nil: nothing does

	mu      sync.Mutex
	next    *saying
	wake    chan struct{} // holds one
	closed  chan struct{}
	stopped chan struct{}
	close   sync.Once
}

// saying is what to say next; no text: nothing.
type saying struct{ language, text string }

// Find returns a speaker for a program: espeak-ng, spd-say, or another that
// takes a language as its argument and text by standard input. An empty name is
// the first of the two on PATH, and there may be none: the Speaker is nil then,
// as for Off.
func Find(name string) (*Speaker, error) {
	switch name {
	case Off:
		return nil, nil
	case "":
		for _, known := range []string{"espeak-ng", "spd-say"} {
			if path, err := exec.LookPath(known); err == nil {
				return start(path), nil
			}
		}
		return nil, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProgram, err)
	}
	return start(path), nil
}

func start(path string) *Speaker {
	s := &Speaker{path: path, do: plain, wake: make(chan struct{}, 1), closed: make(chan struct{}), stopped: make(chan struct{})}
	switch filepath.Base(path) {
	case "espeak-ng":
		s.do = espeak
	case "spd-say":
		s.do = dispatcher
		s.quit = func(path string) *exec.Cmd { return exec.Command(path, "--cancel") } // the daemon goes on by itself
	}
	go s.run()
	return s
}

func plain(path, language, text string) *exec.Cmd {
	c := exec.Command(path, language)
	c.Stdin = strings.NewReader(text + "\n")
	return c
}

func espeak(path, language, text string) *exec.Cmd {
	if language == "zh" {
		language = "cmn" // Mandarin has its own name there
	}
	c := exec.Command(path, "-v", language, "--stdin")
	c.Stdin = strings.NewReader(text + "\n")
	return c
}

func dispatcher(path, language, text string) *exec.Cmd {
	return exec.Command(path, "--wait", "--language", language, "--", text)
}

// Say stops what is being said and says text in a language ("en"). It returns at
// once.
func (s *Speaker) Say(language, text string) { s.set(&saying{language, text}) }

// Stop ends what is being said. It returns at once.
func (s *Speaker) Stop() { s.set(&saying{}) }

// Close ends what is being said, and the speaker.
func (s *Speaker) Close() {
	s.close.Do(func() { close(s.closed) })
	<-s.stopped
}

func (s *Speaker) set(next *saying) {
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // what was to be said before is forgotten
	}
}

// run starts and kills programs, one at a time.
func (s *Speaker) run() {
	defer close(s.stopped)
	var running *exec.Cmd
	var ended chan struct{}
	var late <-chan time.Time
	end := func() {
		if running == nil {
			return
		}
		select {
		case <-ended: // by itself
		default:
			kill(running)
			<-ended
		}
		running = nil
		if s.quit != nil {
			s.hush()
		}
	}
	defer end()
	for {
		select {
		case <-s.closed:
			return
		case <-late:
			end()
		case <-ended:
			running, ended, late = nil, nil, nil
		case <-s.wake:
			s.mu.Lock()
			next := s.next
			s.next = nil
			s.mu.Unlock()
			if next == nil {
				continue // taken at the call before
			}
			end()
			if ended, late = nil, nil; next.text == "" {
				continue
			}
			c := s.do(s.path, next.language, next.text)
			if ended = launch(c); ended != nil {
				running, late = c, time.After(longest)
			}
		}
	}
}

// launch starts a program; the channel is closed when it has ended, and nil
// when it could not be started: a kiosk that cannot speak still shows.
func launch(c *exec.Cmd) chan struct{} {
	group(c)
	c.WaitDelay = time.Second // for a child of its that keeps standard input
	if c.Start() != nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		c.Wait()
		close(ended)
	}()
	return ended
}

// hush tells a daemon to be quiet.
func (s *Speaker) hush() {
	c := s.quit(s.path)
	ended := launch(c)
	if ended == nil {
		return
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		kill(c)
		<-ended
	}
}
