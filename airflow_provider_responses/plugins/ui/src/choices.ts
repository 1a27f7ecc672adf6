// The list of a filter: what is chosen first, then what matches the words.

export const SHOWN = 100;

export const matching = (
  choices: string[],
  chosen: string[],
  words: string,
  label: (value: string) => string = (value) => value,
): { shown: string[]; left: number } => {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (value: string) => wanted.every((word) => label(value).toLowerCase().includes(word));
  const rest = [...new Set(choices)].filter((value) => !chosen.includes(value) && matches(value));
  rest.sort((a, b) => label(a).localeCompare(label(b), "en"));
  return { shown: [...chosen, ...rest.slice(0, SHOWN)], left: Math.max(rest.length - SHOWN, 0) };
};
