type PageProps = { standalone: boolean; busy: boolean; children: React.ReactNode };

/** The content of a page. In Airflow's frame, the main part of the page is Airflow's. */
export const Page = ({ standalone, busy, children }: PageProps) => {
  const Part = standalone ? "main" : "div";
  return (
    <Part className="page" aria-busy={busy}>
      {children}
    </Part>
  );
};
