package cli

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar that shows how far something is, on a terminal only. It
// leaves nothing behind.
type progress struct {
	sys   *System
	label string
	bar   *progressbar.ProgressBar
}

func (s *System) progress(label string) *progress { return &progress{sys: s, label: label} }

// bytes and tokens move the bar; the first call draws it.
func (p *progress) bytes(done, total int64) { p.move(done, total, true) }
func (p *progress) tokens(done, total int)  { p.move(int64(done), int64(total), false) }

// work moves the bar of a task with several stages by shares of a total, with
// the time left.
func (p *progress) work(stage string, done, total int64) {
	if !p.sys.ErrTerminal {
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(max(total, 1),
			progressbar.OptionSetWriter(p.sys.Err),
			progressbar.OptionSetWidth(24),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	if stage != p.label {
		p.label = stage
		p.bar.Describe(stage)
	}
	if done < total { // the last step ends the bar, which a resumed one may not be at
		_ = p.bar.Set64(done)
	}
}

func (p *progress) move(done, total int64, bytes bool) {
	if !p.sys.ErrTerminal {
		return
	}
	if p.bar != nil && p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.sys.Err),
			progressbar.OptionSetDescription(p.label),
			progressbar.OptionShowBytes(bytes),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = p.bar.Set64(done)
}

// describe changes the label.
func (p *progress) describe(label string) {
	p.label = label
	if p.bar != nil {
		p.bar.Describe(label)
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}
