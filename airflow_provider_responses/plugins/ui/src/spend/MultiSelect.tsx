import { useEffect, useId, useRef, useState } from "react";

import { matching } from "../choices";

type MultiSelectProps = {
  name: string;
  /** The text if nothing is chosen. */
  all: string;
  choices: string[];
  chosen: string[];
  label?: (value: string) => string;
  change: (chosen: string[]) => void;
};

/** A button that opens a list of checkboxes with a field to search it. Escape, or the focus elsewhere, closes it. */
export const MultiSelect = ({ name, all, choices, chosen, label = (value) => value, change }: MultiSelectProps) => {
  const [open, setOpen] = useState(false);
  const [words, setWords] = useState("");
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();

  useEffect(() => {
    if (!open) return undefined;
    const outside = (event: Event) => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [open]);

  const keys = (event: React.KeyboardEvent) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    button.current?.focus();
  };
  const toggle = (value: string) =>
    change(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value]);
  const { shown, left } = matching(choices, chosen, words, label);
  const only = chosen[0];
  const text = only === undefined ? all : chosen.length === 1 ? label(only) : `${chosen.length} chosen`;
  return (
    <div className="field select" ref={root} onKeyDown={keys}>
      <span id={`${id}-name`}>{name}</span>
      <button
        ref={button}
        id={`${id}-button`}
        type="button"
        aria-expanded={open}
        aria-controls={open ? `${id}-list` : undefined}
        aria-labelledby={`${id}-name ${id}-button`}
        onClick={() => setOpen(!open)}
      >
        <span className="clip">{text}</span>
        <span aria-hidden="true">▾</span>
      </button>
      {open && (
        <div className="popover" id={`${id}-list`} role="group" aria-labelledby={`${id}-name`}>
          <input
            type="search"
            placeholder="Search"
            aria-label={`Search: ${name}`}
            value={words}
            autoFocus
            onChange={(event) => setWords(event.target.value)}
          />
          <ul>
            {shown.map((value) => (
              <li key={value}>
                <label>
                  <input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(value)} />
                  <span>{label(value)}</span>
                </label>
              </li>
            ))}
          </ul>
          {shown.length === 0 && <p className="note">Nothing matches.</p>}
          {left > 0 && <p className="note">{left} more: search for them.</p>}
        </div>
      )}
    </div>
  );
};
