import { useEffect, useState } from "react";

import { copy } from "../clipboard";

/** A button that copies a text. @param what is copied, for its name. */
export const CopyButton = ({ text, what }: { text: string; what: string }) => {
  const [result, setResult] = useState<string | null>(null);
  useEffect(() => {
    if (result === null) return undefined;
    const timer = setTimeout(() => setResult(null), 3000);
    return () => clearTimeout(timer);
  }, [result]);
  const click = () => {
    void copy(text).then((done) => setResult(done ? "Copied" : "Select the text to copy it"));
  };
  return (
    <span className="copy">
      <button type="button" className="button small" onClick={click} aria-label={`Copy ${what}`}>
        Copy
      </button>
      <span role="status">{result ?? ""}</span>
    </span>
  );
};
