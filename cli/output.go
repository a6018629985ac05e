package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// formats of --output that a verb can have.
var (
	formatsList = []string{"table", "wide", "name", "json"}
	formatsOne  = []string{"table", "json"}
)

const annotationFormats = "formats"

// withOutput gives a verb the --output flag with its formats.
func (a *app) withOutput(cmd *cobra.Command, formats []string) *cobra.Command {
	cmd.Flags().StringVarP(&a.output, "output", "o", formats[0], "`format`: "+strings.Join(formats, ", "))
	cmd.Annotations = map[string]string{annotationFormats: strings.Join(formats, ",")}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) checkOutput(cmd *cobra.Command) error {
	formats, ok := cmd.Annotations[annotationFormats]
	if ok && !slices.Contains(strings.Split(formats, ","), a.output) {
		return usage("output format %q is not one of %s", a.output, strings.ReplaceAll(formats, ",", ", "))
	}
	return nil
}

// json prints data for programs.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// table prints rows in columns; the first row is the heading.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func join[T fmt.Stringer](list []T) string {
	if len(list) == 0 {
		return "-"
	}
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = v.String()
	}
	return strings.Join(s, ",")
}
