"""Plain files of rows: JSON Lines and Parquet, in bounded memory."""
