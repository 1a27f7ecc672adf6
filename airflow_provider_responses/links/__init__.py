"""Links of task instances in Airflow's UI."""
