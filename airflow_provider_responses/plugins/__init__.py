"""Pages in Airflow's UI. Airflow imports ``plugin`` into each of its processes; the API server imports the rest."""
