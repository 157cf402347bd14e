"""The pool's own machine: runs admitted programs in a sandboxed child under the pinned numeric profile."""
