import { count } from "../format";
import { DataTable } from "../parts/DataTable";

/** How often each error occurred; nothing if none did. */
export const Failures = ({ failures }: { failures: Record<string, number> | null | undefined }) => {
  const rows = Object.entries(failures ?? {}).sort(([, a], [, b]) => b - a);
  if (rows.length === 0) return null;
  return (
    <DataTable
      caption="Failures by kind"
      id={([error]) => error}
      rows={rows}
      columns={[
        { name: "Error", cell: ([error]) => <code>{error}</code> },
        { name: "Requests", numeric: true, cell: ([, number]) => count(number) },
      ]}
    />
  );
};
