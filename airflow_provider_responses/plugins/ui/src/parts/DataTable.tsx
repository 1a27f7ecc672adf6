import { useId, useState } from "react";

export type Column<T> = {
  name: string;
  cell: (row: T) => React.ReactNode;
  /** What the column is sorted by; without it, it is not. Null comes last. */
  sort?: (row: T) => number | string | null;
  numeric?: boolean;
};

type TableProps<T> = {
  caption: string;
  /** Of rows; unique. */
  id: (row: T) => string;
  columns: Column<T>[];
  rows: T[];
  /** Rows that are shown at first. */
  first?: number;
};

type Order = { column: string; descending: boolean };

const compared = (a: number | string | null, b: number | string | null): number => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en");
};

export const sortedRows = <T,>(rows: T[], sort: Column<T>["sort"], descending: boolean): T[] => {
  if (!sort) return rows;
  return [...rows].sort((x, y) => {
    const [a, b] = [sort(x), sort(y)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return descending ? compared(b, a) : compared(a, b);
  });
};

/** A table whose columns can be sorted, and which is scrolled sideways on a narrow page. */
export const DataTable = <T,>({ caption, id, columns, rows, first = 10 }: TableProps<T>) => {
  const [order, setOrder] = useState<Order | null>(null);
  const [all, setAll] = useState(false);
  const name = useId();
  const sort = columns.find((column) => column.name === order?.column)?.sort;
  const sorted = sortedRows(rows, sort, order?.descending ?? true);
  const shown = all ? sorted : sorted.slice(0, first);
  const click = (column: Column<T>) =>
    setOrder((before) => ({
      column: column.name,
      descending: before?.column === column.name ? !before.descending : column.numeric === true,
    }));
  const direction = (column: Column<T>) => {
    if (order?.column !== column.name) return "none";
    return order.descending ? "descending" : "ascending";
  };
  return (
    <>
      <div className="scroll" role="region" aria-labelledby={name} tabIndex={0}>
        <table>
          <caption id={name}>{caption}</caption>
          <thead>
            <tr>
              {columns.map((column) => (
                <th
                  key={column.name}
                  scope="col"
                  className={column.numeric ? "numeric" : undefined}
                  aria-sort={column.sort ? direction(column) : undefined}
                >
                  {column.sort ? (
                    <button type="button" onClick={() => click(column)}>
                      {column.name}
                      {order?.column === column.name && (
                        <span aria-hidden="true">{order.descending ? " ↓" : " ↑"}</span>
                      )}
                    </button>
                  ) : (
                    column.name
                  )}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={id(row)}>
                {columns.map((column, index) =>
                  index === 0 ? (
                    <th key={column.name} scope="row">
                      {column.cell(row)}
                    </th>
                  ) : (
                    <td key={column.name} className={column.numeric ? "numeric" : undefined}>
                      {column.cell(row)}
                    </td>
                  ),
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > first && (
        <button type="button" className="button small" onClick={() => setAll(!all)}>
          {all ? `Show the first ${first} rows of: ${caption}` : `Show all ${rows.length} rows of: ${caption}`}
        </button>
      )}
    </>
  );
};
